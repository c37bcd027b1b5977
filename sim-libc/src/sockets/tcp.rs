//! The life of a TCP socket: new, bound, listening, connecting, connected, and new again after a connection that failed.

use super::bits;
use super::options::Options;
use crate::descriptors::{Answer, EVERY, Errno, HUP, IN, OUT, READ_HUP};
use sim_net::{BindOptions, News, StreamState, TcpBound, TcpListener, TcpStream};
use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The longest queue of connections that nobody has accepted (`net.core.somaxconn`).
pub(super) const BACKLOG: u32 = 4096;

/// A TCP socket.
#[derive(Default)]
pub(super) struct Tcp {
    state: RefCell<State>,
    /// Shut down before there was a connection: which fails, and shows (Linux, inet_shutdown()).
    shut: Cell<(bool, bool)>,
    /// Where the program bound it.
    home: Cell<Option<Home>>,
    /// What a socket goes on to show whose port was given back: of a connection that failed, of a listener that was shut
    /// down.
    left: Cell<Option<SocketAddr>>,
}

/// Where a program bound a socket: what lasts when the socket is closed inside (Linux, `SOCK_BINDADDR_LOCK` and
/// `SOCK_BINDPORT_LOCK`).
#[derive(Clone, Copy)]
struct Home {
    addr: SocketAddr,
    how: BindOptions,
    /// It named the port.
    keeps_port: bool,
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
    fn is_new(&self) -> bool {
        matches!(*self.state.borrow(), State::New)
    }

    /// Whether it has a port, by its program or by a call that needed one.
    pub fn has_port(&self) -> bool {
        match &*self.state.borrow() {
            State::New => false,
            // What is closed has given back a port that its program did not name (Linux, tcp_set_state()).
            State::Connecting(stream) | State::Connected(stream) => {
                self.home.get().is_some_and(|home| home.keeps_port)
                    || stream.state().is_ok_and(|state| state != StreamState::Closed)
            }
            State::Bound(_) | State::Listening(_) => true,
        }
    }

    pub fn listens(&self) -> bool {
        matches!(*self.state.borrow(), State::Listening(_))
    }

    pub fn ready(&self) -> u32 {
        match &*self.state.borrow() {
            // Linux, tcp_poll(): a closed socket has hung up, and takes a write to say so.
            State::New | State::Bound(_) => OUT | HUP | if self.shut.get().0 { IN | READ_HUP } else { 0 },
            State::Listening(listener) => listener.readiness().map_or(HUP, bits),
            // Without it its machine is gone.
            State::Connecting(stream) | State::Connected(stream) => {
                stream.readiness_as(bits).unwrap_or(IN | OUT | HUP | READ_HUP)
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
        drop(state);
        match news {
            // What hangs up tells of reading, too.
            Ok((News { read: false, write: true }, _)) => OUT,
            Ok((news, now)) => super::unix::told(Some(news), bits(now)),
            Err(_) => super::unix::told(None, self.ready()),
        }
    }

    pub fn bind(&self, addr: SocketAddr, options: &Options) -> Answer<()> {
        let mut state = self.state.borrow_mut();
        match *state {
            State::New => {
                let bound = TcpBound::bind_with(addr, options.sharing())?;
                let home = Home { addr: bound.local_addr()?, how: options.sharing(), keeps_port: addr.port() != 0 };
                self.home.set(Some(home));
                *state = State::Bound(bound);
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
            let home = self.home.get();
            self.bind(home.map_or(anywhere, |home| SocketAddr::new(home.addr.ip(), 0)), options)?;
            // Not the program's own doing: it does not last.
            self.home.set(home);
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
        Ok((Tcp { state: RefCell::new(State::Connected(stream)), ..Tcp::default() }, peer))
    }

    /// What a call to connect finds: an error of its own, how an attempt has ended of which nobody was told, or nothing.
    pub fn settled(&self) -> Answer<Option<Answer<()>>> {
        match *self.state.borrow() {
            State::Listening(_) | State::Connected(_) => return Err(Errno(libc::EISCONN)),
            State::New | State::Bound(_) | State::Connecting(_) => {}
        }
        Ok(self.settle())
    }

    pub fn is_connecting(&self) -> bool {
        matches!(*self.state.borrow(), State::Connecting(_))
    }

    /// Begins to connect.
    pub fn connect(&self, to: SocketAddr, options: &Options) -> Answer<()> {
        let mut state = self.state.borrow_mut();
        if let (State::New, Some(home)) = (&*state, self.home.get()) {
            // Its address is its own still, if not its port.
            *state = State::Bound(TcpBound::bind_with(SocketAddr::new(home.addr.ip(), 0), home.how)?);
        }
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
        self.shut.take();
        Ok(())
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
                let port = stream.local_addr().map_or(0, |addr| addr.port());
                self.go_home(&mut state, port);
                let errno = Errno::from(error);
                Some(Err(if errno == NOT_CONNECTED { Errno(libc::ECONNABORTED) } else { errno }))
            }
        }
    }

    /// Ends what the socket is, down to where it was bound. `port` is the one that it had.
    fn go_home(&self, state: &mut State, port: u16) {
        drop(std::mem::take(state));
        let home = self.home.get();
        if let Some(home) = home.filter(|home| home.keeps_port)
            && let Ok(bound) = TcpBound::bind_with(home.addr, home.how)
        {
            *state = State::Bound(bound);
        }
        let ip = home.map_or(Ipv4Addr::UNSPECIFIED.into(), |home| home.addr.ip());
        self.left.set(Some(SocketAddr::new(ip, port)));
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
            State::New | State::Bound(_) => {
                let (was_read, was_write) = self.shut.get();
                self.shut.set((was_read || read, was_write || write));
                Err(NOT_CONNECTED)
            }
            State::Listening(listener) => {
                if read {
                    self.shut.take();
                    let port = listener.local_addr().map_or(0, |addr| addr.port());
                    match std::mem::take(&mut *state) {
                        // It never gives the port up, whoever else is there.
                        State::Listening(listener) if self.home.get().is_some_and(|home| home.keeps_port) => {
                            *state = State::Bound(listener.stop()?);
                        }
                        listening => {
                            *state = listening;
                            self.go_home(&mut state, port);
                        }
                    }
                }
                Ok(())
            }
            State::Connecting(stream) | State::Connected(stream) => {
                let stands = stream.state().is_ok_and(|state| state == StreamState::Connected);
                let done = stream.shutdown(read, write);
                // From here on it counts as connected (Linux, inet_shutdown()).
                if stands {
                    *state = match std::mem::take(&mut *state) {
                        State::Connecting(stream) => State::Connected(stream),
                        other => other,
                    };
                }
                Ok(done?)
            }
        }
    }

    pub fn write(&self, parts: &[IoSlice<'_>]) -> Answer<usize> {
        match &*self.state.borrow() {
            State::New | State::Bound(_) | State::Listening(_) => Err(Errno(libc::EPIPE)),
            State::Connecting(stream) | State::Connected(stream) => Ok(stream.try_write_vectored(parts)?),
        }
    }

    /// How many bytes there were, and whether a read would give something again.
    pub fn read(&self, room: usize, peek: bool, put: &mut dyn FnMut(&[u8])) -> Answer<(usize, bool)> {
        let state = self.state.borrow();
        let stream = match &*state {
            State::New | State::Bound(_) if self.shut.get().0 => return Ok((0, true)),
            State::New | State::Bound(_) | State::Listening(_) => return Err(NOT_CONNECTED),
            State::Connecting(stream) | State::Connected(stream) => stream,
        };
        Ok(if peek { (stream.try_peek_from(0, room, put)?, true) } else { stream.try_read_on(room, put)? })
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
            State::New => self.left.get(),
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

    /// Whether an error waits to be told.
    pub fn has_error(&self) -> bool {
        match &*self.state.borrow() {
            State::Connecting(stream) | State::Connected(stream) => stream.readiness().is_ok_and(|r| r.error),
            State::New | State::Bound(_) | State::Listening(_) => false,
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
