//! The life of a TCP socket: new, bound, listening, connecting, connected, and new again after a connection that failed.

use super::bits;
use super::options::Options;
use crate::descriptors::{Answer, EVERY, Errno, HUP, IN, OUT, READ_HUP};
use sim_net::{TcpBound, TcpListener, TcpStream};
use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The longest queue of connections that nobody has accepted (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// A TCP socket.
#[derive(Default)]
pub(super) struct Tcp {
    state: RefCell<State>,
    /// It was shut down for reading: what the peer still sends may be read, and then comes the end.
    deaf: Cell<bool>,
    /// The handshake was seen to be done.
    met: Cell<bool>,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Bound(TcpBound),
    Listening(TcpListener),
    /// Nobody was told yet how it ended.
    Connecting(TcpStream),
    Connected(TcpStream),
}

const NOT_CONNECTED: Errno = Errno(libc::ENOTCONN);

impl Tcp {
    pub fn is_new(&self) -> bool {
        matches!(*self.state.borrow(), State::New)
    }

    pub fn listens(&self) -> bool {
        matches!(*self.state.borrow(), State::Listening(_))
    }

    pub fn ready(&self) -> u32 {
        let deaf = if self.deaf.get() { IN | READ_HUP } else { 0 };
        match &*self.state.borrow() {
            // Linux, tcp_poll(): a closed socket has hung up, and takes a write to say so.
            State::New | State::Bound(_) => OUT | HUP,
            State::Listening(listener) => listener.readiness().map_or(HUP, bits),
            State::Connecting(stream) | State::Connected(stream) => match stream.readiness() {
                Ok(readiness) => {
                    let both = deaf != 0 && readiness.write_closed;
                    bits(readiness) | deaf | if both { HUP } else { 0 }
                }
                // Its machine is gone.
                Err(_) => IN | OUT | HUP | READ_HUP,
            },
        }
    }

    pub fn observe(&self, observer: Waker) -> Answer<()> {
        match &*self.state.borrow() {
            State::New | State::Bound(_) => {}
            State::Listening(listener) => listener.observe(observer)?,
            State::Connecting(stream) | State::Connected(stream) => stream.observe(observer)?,
        }
        Ok(())
    }

    pub fn news(&self) -> u32 {
        // Also asked while a call of our own changes the state, which is news enough.
        let Ok(state) = self.state.try_borrow() else { return EVERY };
        let news = match &*state {
            State::Connecting(stream) | State::Connected(stream) => stream.take_news(),
            State::New | State::Bound(_) | State::Listening(_) => return EVERY,
        };
        match news {
            Ok(news) if news.read && news.write => EVERY,
            Ok(news) if news.read => IN | READ_HUP,
            Ok(news) if news.write => OUT,
            Ok(_) | Err(_) => EVERY,
        }
    }

    pub fn bind(&self, addr: SocketAddr, _options: &Options) -> Answer<()> {
        let mut state = self.state.borrow_mut();
        match *state {
            State::New => {
                *state = State::Bound(TcpBound::bind(addr)?);
                Ok(())
            }
            _ => Err(Errno::INVALID),
        }
    }

    pub fn listen(&self, anywhere: SocketAddr, options: &Options, backlog: i32) -> Answer<()> {
        // Negative: as unsigned it is more than there may be.
        let backlog = (backlog as u32).min(BACKLOG);
        if self.is_new() {
            self.bind(anywhere, options)?;
        }
        let mut state = self.state.borrow_mut();
        match std::mem::take(&mut *state) {
            State::Bound(bound) => {
                *state = State::Listening(bound.listen(backlog)?);
                Ok(())
            }
            State::Listening(listener) => {
                *state = State::Listening(listener);
                Ok(())
            }
            other => {
                *state = other;
                Err(Errno::INVALID)
            }
        }
    }

    pub fn accept(&self) -> Answer<(Tcp, SocketAddr)> {
        let State::Listening(listener) = &*self.state.borrow() else { return Err(Errno::INVALID) };
        let (stream, peer) = listener.try_accept()?;
        let state = RefCell::new(State::Connected(stream));
        Ok((Tcp { state, deaf: Cell::new(false), met: Cell::new(true) }, peer))
    }

    /// Begins to connect, or says how that went. False: it is under way now.
    pub fn connect(&self, to: SocketAddr) -> Answer<bool> {
        match &*self.state.borrow() {
            State::Listening(_) | State::Connected(_) => return Err(Errno(libc::EISCONN)),
            State::Connecting(_) | State::New | State::Bound(_) => {}
        }
        if let Some(how) = self.settle() {
            return how.map(|()| true);
        }
        let mut state = self.state.borrow_mut();
        let stream = match std::mem::take(&mut *state) {
            State::Bound(bound) => bound.connect(to)?,
            State::New => TcpStream::connect(to)?,
            other => {
                *state = other;
                return Err(Errno(libc::EALREADY));
            }
        };
        *state = State::Connecting(stream);
        self.deaf.set(false);
        self.met.set(false);
        Ok(false)
    }

    /// If connecting has come to its end and nobody was told yet: how.
    fn settle(&self) -> Option<Answer<()>> {
        let mut state = self.state.borrow_mut();
        let State::Connecting(stream) = &*state else { return None };
        match stream.poll_connected(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                if let State::Connecting(stream) = std::mem::take(&mut *state) {
                    *state = State::Connected(stream);
                }
                Some(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                // The socket may be used again (Linux, __inet_stream_connect()).
                *state = State::New;
                let errno = Errno::from(error);
                Some(Err(if errno == NOT_CONNECTED { Errno(libc::ECONNABORTED) } else { errno }))
            }
        }
    }

    /// How connecting went, for a call that waits for it.
    pub fn connected(&self) -> Answer<()> {
        match self.settle() {
            Some(how) => how,
            None if matches!(*self.state.borrow(), State::Connecting(_)) => Err(Errno::AGAIN),
            None => Ok(()),
        }
    }

    /// connect(2) to AF_UNSPEC: the connection is broken off.
    pub fn disconnect(&self) {
        let before = std::mem::take(&mut *self.state.borrow_mut());
        if let State::Connecting(stream) | State::Connected(stream) = &before {
            let _already_gone = stream.set_options(|o| o.linger = Some(Duration::ZERO));
        }
    }

    pub fn shut_down(&self, read: bool, write: bool) -> Answer<()> {
        let mut state = self.state.borrow_mut();
        match &*state {
            State::New | State::Bound(_) => Err(NOT_CONNECTED),
            State::Listening(_) => {
                if read {
                    *state = State::New;
                }
                Ok(())
            }
            State::Connecting(stream) | State::Connected(stream) => {
                let open = stream.readiness().is_ok_and(|r| !(r.read_closed && r.write_closed));
                if !open {
                    return Err(NOT_CONNECTED);
                }
                if write {
                    stream.shutdown_write()?;
                }
                if read {
                    self.deaf.set(true);
                }
                Ok(())
            }
        }
    }

    pub fn write(&self, parts: &[IoSlice<'_>]) -> Answer<usize> {
        match &*self.state.borrow() {
            State::New | State::Bound(_) | State::Listening(_) => Err(Errno(libc::EPIPE)),
            State::Connecting(stream) | State::Connected(stream) => {
                let wrote = stream.try_write_vectored(parts)?;
                self.met.set(true);
                Ok(wrote)
            }
        }
    }

    pub fn read(&self, room: usize, peek: bool, put: &mut dyn FnMut(&[u8])) -> Answer<usize> {
        let state = self.state.borrow();
        let stream = match &*state {
            State::New | State::Bound(_) | State::Listening(_) => return Err(NOT_CONNECTED),
            State::Connecting(stream) | State::Connected(stream) => stream,
        };
        let read = if peek {
            match stream.poll_peek_with(&mut Context::from_waker(Waker::noop()), room, put) {
                Poll::Ready(done) => done.map_err(Errno::from),
                Poll::Pending => Err(Errno::AGAIN),
            }
        } else {
            stream.try_read_with(room, put).map_err(Errno::from)
        };
        match read {
            Err(Errno::AGAIN) if self.deaf.get() => Ok(0),
            read => read,
        }
    }

    pub fn unread(&self) -> Answer<usize> {
        match &*self.state.borrow() {
            State::Listening(_) => Err(Errno::INVALID),
            State::New | State::Bound(_) => Ok(0),
            State::Connecting(stream) | State::Connected(stream) => {
                let mut sum = 0;
                let mut count = |bytes: &[u8]| sum += bytes.len();
                let mut cx = Context::from_waker(Waker::noop());
                let _nothing_or_an_error = stream.poll_peek_with(&mut cx, usize::MAX, &mut count);
                Ok(sum)
            }
        }
    }

    pub fn name(&self) -> Answer<Option<SocketAddr>> {
        Ok(match &*self.state.borrow() {
            State::New => None,
            State::Bound(bound) => Some(bound.local_addr()?),
            State::Listening(listener) => Some(listener.local_addr()?),
            State::Connecting(stream) | State::Connected(stream) => Some(stream.local_addr()?),
        })
    }

    pub fn peer(&self) -> Answer<SocketAddr> {
        match &*self.state.borrow() {
            State::Connecting(stream) | State::Connected(stream) if self.stands(stream) => Ok(stream.peer_addr()?),
            _ => Err(NOT_CONNECTED),
        }
    }

    /// Whether the handshake is done and the connection not over.
    fn stands(&self, stream: &TcpStream) -> bool {
        let Ok(readiness) = stream.readiness() else { return false };
        // Before that a socket is ready for nothing.
        if readiness.writable || readiness.readable {
            self.met.set(true);
        }
        self.met.get() && !readiness.hang_up
    }

    pub fn take_error(&self) -> Option<Errno> {
        match &*self.state.borrow() {
            State::Connecting(stream) | State::Connected(stream) => stream.take_error().ok()?.map(Errno::from),
            State::New | State::Bound(_) | State::Listening(_) => None,
        }
    }

    pub fn apply(&self, options: &Options) {
        if let State::Connecting(stream) | State::Connected(stream) = &*self.state.borrow() {
            let _already_gone = stream.set_options(|o| {
                o.nodelay = options.nodelay != 0;
                o.ttl = options.hops as u32;
                o.linger = options.linger.map(|s| Duration::from_secs(s.max(0) as u64));
            });
        }
    }
}
