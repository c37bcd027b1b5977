//! The life of a TCP socket: new, bound, listening, connecting, connected, and new again after a connection that failed.

use super::bits;
use super::options::Options;
use crate::descriptors::{Answer, EVERY, Errno, HUP, IN, OUT, READ_HUP};
use sim_net::{TcpBound, TcpListener, TcpStream};
use std::cell::RefCell;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The longest queue of connections that nobody has accepted (`net.core.somaxconn`).
pub(super) const BACKLOG: u32 = 4096;

/// A TCP socket.
#[derive(Default)]
pub(super) struct Tcp {
    state: RefCell<State>,
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
        match &*self.state.borrow() {
            // Linux, tcp_poll(): a closed socket has hung up, and takes a write to say so.
            State::New | State::Bound(_) => OUT | HUP,
            State::Listening(listener) => listener.readiness().map_or(HUP, bits),
            // Without it its machine is gone.
            State::Connecting(stream) | State::Connected(stream) => {
                stream.readiness().map_or(IN | OUT | HUP | READ_HUP, bits)
            }
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
        super::unix::told(news.ok())
    }

    pub fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), State::Connected(_))
    }

    pub fn bind(&self, addr: SocketAddr, options: &Options) -> Answer<()> {
        let mut state = self.state.borrow_mut();
        match *state {
            State::New => {
                *state = State::Bound(TcpBound::bind_with(addr, options.sharing())?);
                drop(state);
                self.apply(options);
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
            State::Bound(bound) => match bound.try_listen(backlog) {
                Ok(listener) => {
                    *state = State::Listening(listener);
                    Ok(())
                }
                Err((bound, error)) => {
                    *state = State::Bound(bound);
                    Err(error.into())
                }
            },
            State::Listening(listener) => {
                let done = listener.set_backlog(backlog);
                *state = State::Listening(listener);
                Ok(done?)
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
        Ok((Tcp { state: RefCell::new(State::Connected(stream)) }, peer))
    }

    /// Begins to connect, or says how that went. False: it is under way now.
    pub fn connect(&self, to: SocketAddr, options: &Options) -> Answer<bool> {
        match &*self.state.borrow() {
            State::Listening(_) | State::Connected(_) => return Err(Errno(libc::EISCONN)),
            State::Connecting(_) | State::New | State::Bound(_) => {}
        }
        if let Some(how) = self.settle() {
            return how.map(|()| true);
        }
        let mut state = self.state.borrow_mut();
        let stream = match std::mem::take(&mut *state) {
            State::Bound(bound) => match bound.try_connect(to) {
                Ok(stream) => stream,
                Err((bound, error)) => {
                    *state = State::Bound(bound);
                    return Err(error.into());
                }
            },
            State::New => TcpStream::connect_with(to, options.of_tcp())?,
            other => {
                *state = other;
                return Err(Errno(libc::EALREADY));
            }
        };
        *state = State::Connecting(stream);
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
            State::Connecting(stream) | State::Connected(stream) => Ok(stream.shutdown(read, write)?),
        }
    }

    pub fn write(&self, parts: &[IoSlice<'_>]) -> Answer<usize> {
        match &*self.state.borrow() {
            State::New | State::Bound(_) | State::Listening(_) => Err(Errno(libc::EPIPE)),
            State::Connecting(stream) | State::Connected(stream) => Ok(stream.try_write_vectored(parts)?),
        }
    }

    pub fn read(&self, room: usize, peek: bool, put: &mut dyn FnMut(&[u8])) -> Answer<usize> {
        let state = self.state.borrow();
        let stream = match &*state {
            State::New | State::Bound(_) | State::Listening(_) => return Err(NOT_CONNECTED),
            State::Connecting(stream) | State::Connected(stream) => stream,
        };
        Ok(if peek { stream.try_peek_from(0, room, put)? } else { stream.try_read_with(room, put)? })
    }

    pub fn unread(&self) -> Answer<usize> {
        match &*self.state.borrow() {
            State::Listening(_) => Err(Errno::INVALID),
            State::New | State::Bound(_) => Ok(0),
            State::Connecting(stream) | State::Connected(stream) => Ok(stream.unread()?),
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
            State::Connecting(stream) | State::Connected(stream) => Ok(stream.peer_addr()?),
            State::New | State::Bound(_) | State::Listening(_) => Err(NOT_CONNECTED),
        }
    }

    pub fn take_error(&self) -> Option<Errno> {
        match &*self.state.borrow() {
            State::Connecting(stream) | State::Connected(stream) => stream.take_error().ok()?.map(Errno::from),
            State::New | State::Bound(_) | State::Listening(_) => None,
        }
    }

    pub fn apply(&self, options: &Options) {
        let wanted = options.of_tcp();
        let _already_gone = match &*self.state.borrow() {
            State::New => Ok(()),
            State::Bound(bound) => bound.set_options(|o| *o = wanted),
            State::Listening(listener) => listener.set_options(|o| *o = wanted),
            State::Connecting(stream) | State::Connected(stream) => stream.set_options(|o| *o = wanted),
        };
    }

    /// Begins to close a stream whose program wants to wait until its peer has everything, and says when that is.
    pub fn drain(&self) -> Answer<()> {
        match &*self.state.borrow() {
            State::Connected(stream) | State::Connecting(stream) if stream.unread()? == 0 => {
                let _already_shut = stream.shutdown(false, true);
                match stream.poll_drained(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(done) => Ok(done?),
                    Poll::Pending => Err(Errno::AGAIN),
                }
            }
            _ => Ok(()),
        }
    }
}
