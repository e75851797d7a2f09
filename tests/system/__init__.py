"""The real command as a process, asked over real sockets: what the contract says, from outside."""
