//! What a socket, a listener or a pipe can do at the moment, in the words of `poll(2)`.

/// What may be done without waiting, as `poll(2)` and `epoll_ctl(2)` name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Readiness {
    /// A read gives bytes, an end or an error; a listener has a connection (EPOLLIN).
    pub readable: bool,
    /// A write takes bytes or gives an error (EPOLLOUT).
    pub writable: bool,
    /// The peer sends nothing any more, or this side was shut down for reading (EPOLLRDHUP).
    pub read_closed: bool,
    /// This side can send nothing any more.
    pub write_closed: bool,
    /// Neither direction is open: closed by both, reset, or never connected (EPOLLHUP).
    pub hang_up: bool,
    /// An error waits for SO_ERROR; of a pipe's writing end: nobody reads (EPOLLERR).
    pub error: bool,
}

/// What an observer was woken for since it last asked. An end is told as `read`, an error or a reset as both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Something to read or to accept, or an end.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

impl News {
    pub(super) const READ: News = News { read: true, write: false };
    pub(super) const WRITE: News = News { read: false, write: true };
}
