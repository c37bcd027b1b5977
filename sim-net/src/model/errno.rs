//! Error numbers as Linux counts them (`asm-generic/errno.h`): what a simulated program sees is a Linux machine.

/// A Linux error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

impl Errno {
    /// The other datagram socket is connected to somebody else.
    pub const EPERM: Errno = Errno(1);
    /// No socket file of that name.
    pub const ENOENT: Errno = Errno(2);
    /// The handle names a socket that was closed, or whose machine died.
    pub const EBADF: Errno = Errno(9);
    /// A pipe holds more than it would after the change.
    pub const EBUSY: Errno = Errno(16);
    /// An argument no socket takes.
    pub const EINVAL: Errno = Errno(22);
    /// The stream was shut down for writing, by this side or for good.
    pub const EPIPE: Errno = Errno(32);
    /// An unconnected socket was asked to send without an address.
    pub const EDESTADDRREQ: Errno = Errno(89);
    /// A datagram greater than 65,507 bytes.
    pub const EMSGSIZE: Errno = Errno(90);
    /// The socket of that name is of another type.
    pub const EPROTOTYPE: Errno = Errno(91);
    /// Not for sockets of this type.
    pub const EOPNOTSUPP: Errno = Errno(95);
    /// An IPv6 address for an IPv4 socket or the other way round.
    pub const EAFNOSUPPORT: Errno = Errno(97);
    /// Another socket is bound there.
    pub const EADDRINUSE: Errno = Errno(98);
    /// The address belongs to no interface of this machine, or no ephemeral port is left.
    pub const EADDRNOTAVAIL: Errno = Errno(99);
    /// The machine is down: its dead program asked for a socket.
    pub const ENETDOWN: Errno = Errno(100);
    /// No route leads to that address.
    pub const ENETUNREACH: Errno = Errno(101);
    /// The peer sent an RST.
    pub const ECONNRESET: Errno = Errno(104);
    /// The socket is connected already.
    pub const EISCONN: Errno = Errno(106);
    /// The socket is not connected.
    pub const ENOTCONN: Errno = Errno(107);
    /// Retransmissions came to their end without an answer.
    pub const ETIMEDOUT: Errno = Errno(110);
    /// Nobody listens there.
    pub const ECONNREFUSED: Errno = Errno(111);
    /// The network is there, the machine is not.
    pub const EHOSTUNREACH: Errno = Errno(113);
}

/// What a call that may have to wait gives: `Ok(None)` says that it has to.
pub type Attempt<T> = Result<Option<T>, Errno>;
