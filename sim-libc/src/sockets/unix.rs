//! Unix sockets: the network has all their states, this file has how calls go about them.

use super::options::Options;
use super::{bits, filling, room};
use crate::descriptors::{Answer, ERR, EVERY, Errno, HUP, IN, OUT, READ_HUP};
use crate::files::sockets as files;
use sim_core::World;
use sim_net::{Credentials, News, Receive, UnixKind, UnixSocket};
use std::io::{IoSlice, IoSliceMut};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A Unix socket.
pub(super) struct Unix(UnixSocket);

/// The kind of a Unix socket, from its number. SOCK_RAW is SOCK_DGRAM there (Linux, unix_create()).
pub(super) fn kind_of(number: i32) -> Answer<UnixKind> {
    match number {
        libc::SOCK_STREAM => Ok(UnixKind::Stream),
        libc::SOCK_DGRAM | libc::SOCK_RAW => Ok(UnixKind::Datagram),
        libc::SOCK_SEQPACKET => Ok(UnixKind::SeqPacket),
        _ => Err(Errno(libc::ESOCKTNOSUPPORT)),
    }
}

/// Whether a name is a path, and paths are those of a disk.
fn is_file(world: &World, name: &[u8]) -> bool {
    name.first().is_some_and(|first| *first != 0) && crate::files::is_simulated(world)
}

/// Who the acting process is to its peers.
fn owner(world: &World) -> Credentials {
    // SAFETY: both take nothing and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    Credentials { pid: crate::interpose::machine::pid(world) as i32, uid, gid }
}

impl Unix {
    pub fn new(world: &World, kind: i32) -> Answer<Unix> {
        Ok(Unix(UnixSocket::new(kind_of(kind)?, owner(world))?))
    }

    pub fn pair(world: &World, kind: i32) -> Answer<[Unix; 2]> {
        Ok(UnixSocket::pair(kind_of(kind)?, owner(world))?.map(Unix))
    }

    pub fn ready(&self) -> u32 {
        self.0.readiness().map_or(HUP, bits)
    }

    pub fn observe(&self, observer: Waker) -> Answer<()> {
        Ok(self.0.observe(observer)?)
    }

    pub fn news(&self) -> u32 {
        match self.0.take_news() {
            // Room tells of nothing else (Linux, unix_write_space()): a change of state is told as both.
            Ok(News { read: false, write: true }) => OUT,
            news => told(news.ok(), self.ready()),
        }
    }

    pub fn bind(&self, world: &'static World, name: &[u8]) -> Answer<()> {
        if !is_file(world, name) {
            return Ok(self.0.bind(name)?);
        }
        if !self.0.name()?.is_empty() {
            // The file is made before the socket is looked at (Linux, unix_bind_bsd()), and taken away again.
            let exists = !matches!(files::find(world, name), Err(Errno(libc::ENOENT | libc::ENOTDIR)));
            return Err(Errno(if exists { libc::EADDRINUSE } else { libc::EINVAL }));
        }
        let place = files::make(world, name)?;
        Ok(self.0.bind_at(name, &place)?)
    }

    /// By what the network knows the socket of that name.
    pub fn find(world: &'static World, name: Vec<u8>) -> Answer<Vec<u8>> {
        if is_file(world, &name) { files::find(world, &name) } else { Ok(name) }
    }

    pub fn listen(&self, backlog: i32) -> Answer<()> {
        Ok(self.0.listen((backlog as u32).min(super::tcp::BACKLOG))?)
    }

    pub fn listens(&self) -> bool {
        self.0.is_listening().unwrap_or(false)
    }

    pub fn accept(&self) -> Answer<Unix> {
        Ok(Unix(self.0.try_accept()?))
    }

    pub fn connect(&self, name: &[u8]) -> Answer<()> {
        Ok(self.0.try_connect(name)?)
    }

    pub fn disconnect(&self) -> Answer<()> {
        Ok(self.0.disconnect()?)
    }

    pub fn shut_down(&self, read: bool, write: bool) -> Answer<()> {
        Ok(self.0.shutdown(read, write)?)
    }

    pub fn send(&self, to: Option<&[u8]>, from: &[IoSlice<'_>]) -> Answer<usize> {
        Ok(self.0.try_send(to, from)?)
    }

    /// How many bytes were given, how long the message was, and its sender's name.
    pub fn receive(
        &self,
        into: &mut [IoSliceMut<'_>],
        skip: usize,
        peek: bool,
        waits: bool,
    ) -> Answer<(usize, usize, Rc<[u8]>)> {
        let how = Receive { room: room(into) - skip, peek, offset: 0 };
        let put = filling(into, skip);
        let received = if waits {
            match self.0.poll_recv(&mut Context::from_waker(Waker::noop()), how, put) {
                Poll::Ready(received) => received?,
                Poll::Pending => return Err(Errno::AGAIN),
            }
        } else {
            self.0.try_recv(how, put)?
        };
        Ok((received.len, received.full_len, received.from))
    }

    pub fn unread(&self) -> Answer<usize> {
        Ok(self.0.unread()?)
    }

    pub fn name(&self) -> Answer<Rc<[u8]>> {
        Ok(self.0.name()?)
    }

    pub fn peer(&self) -> Answer<Rc<[u8]>> {
        Ok(self.0.peer_name()?)
    }

    pub fn take_error(&self) -> Option<Errno> {
        self.0.take_error().ok()?.map(Errno::from)
    }

    /// SO_PEERCRED: a `ucred`.
    pub fn peer_owner(&self) -> Answer<Vec<u8>> {
        let none = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let Credentials { pid, uid, gid } = self.0.peer_owner()?.unwrap_or(none);
        Ok([pid.to_ne_bytes(), uid.to_ne_bytes(), gid.to_ne_bytes()].concat())
    }

    pub fn apply(&self, options: &Options) {
        if let Some(bytes) = options.send_asked {
            let _already_gone = self.0.set_send_buffer(bytes.max(0) as usize);
        }
    }
}

/// The bits that news stand for. An end or an error, if there is one now, comes with either.
pub(super) fn told(news: Option<News>, ready: u32) -> u32 {
    let ends = ready & (HUP | ERR);
    match news {
        Some(News { read: true, write: false }) => IN | READ_HUP | ends,
        Some(News { read: false, write: true }) => OUT | ends,
        // Woken twice for what was told once.
        Some(News { read: false, write: false }) => 0,
        Some(News { read: true, write: true }) | None => EVERY,
    }
}
