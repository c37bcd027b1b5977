//! The life of a UDP socket: new, and bound by the first call that needs a port.

use super::options::Options;
use super::{bits, filling};
use crate::descriptors::{Answer, ERR, EVERY, Errno, HUP, IN, OUT, READ_HUP};
use sim_net::UdpSocket;
use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Waker;

/// A UDP socket.
#[derive(Default)]
pub(super) struct Udp {
    bound: RefCell<Option<UdpSocket>>,
    shut_read: Cell<bool>,
    shut_write: Cell<bool>,
}

impl Udp {
    pub fn is_bound(&self) -> bool {
        self.bound.borrow().is_some()
    }

    pub fn ready(&self) -> u32 {
        let ended = (if self.shut_read.get() { IN | READ_HUP } else { 0 })
            | if self.shut_read.get() && self.shut_write.get() { HUP } else { 0 };
        match &*self.bound.borrow() {
            None => OUT | ended,
            Some(socket) => socket.readiness().map_or(EVERY, bits),
        }
    }

    /// A datagram tells of reading alone, an error of itself (Linux, sock_def_readable() and sock_def_error_report()).
    pub fn news(&self) -> u32 {
        // Also asked while a call of our own changes the state, which is news enough.
        match self.bound.try_borrow_mut().as_deref() {
            Ok(None) => IN,
            Ok(Some(socket)) => IN | socket.has_error().map_or(ERR, |error| if error { ERR } else { 0 }),
            Err(_) => EVERY,
        }
    }

    pub fn observe(&self, observer: Waker) -> Answer<()> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.observe(observer)?),
            None => Ok(()),
        }
    }

    pub fn bind(&self, addr: SocketAddr, options: &Options) -> Answer<()> {
        let mut bound = self.bound.borrow_mut();
        if bound.is_some() {
            return Err(Errno::INVALID);
        }
        let made = UdpSocket::bind_with(addr, options.sharing())?;
        if self.shut_read.get() || self.shut_write.get() {
            // It fails, and counts all the same.
            let _not_connected = made.shutdown(self.shut_read.get(), self.shut_write.get());
        }
        *bound = Some(made);
        drop(bound);
        self.apply(options);
        Ok(())
    }

    pub fn bind_anywhere(&self, anywhere: SocketAddr, options: &Options) -> Answer<()> {
        if self.is_bound() { Ok(()) } else { self.bind(anywhere, options) }
    }

    pub fn connect(&self, anywhere: SocketAddr, to: SocketAddr, options: &Options) -> Answer<()> {
        self.bind_anywhere(anywhere, options)?;
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.connect(to)?),
            None => Err(Errno::INVALID),
        }
    }

    /// connect(2) to AF_UNSPEC.
    pub fn disconnect(&self) -> Answer<()> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.disconnect()?),
            None => Ok(()),
        }
    }

    pub fn shut_down(&self, read: bool, write: bool) -> Answer<()> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.shutdown(read, write)?),
            None => {
                self.shut_read.set(self.shut_read.get() || read);
                self.shut_write.set(self.shut_write.get() || write);
                Err(Errno(libc::ENOTCONN))
            }
        }
    }

    pub fn send(&self, to: Option<SocketAddr>, bytes: &[u8]) -> Answer<usize> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.send(to, bytes)?),
            None => Err(Errno(libc::EDESTADDRREQ)),
        }
    }

    /// The whole length of the next datagram, as much of it as there is room for, who sent it, and whether there is more.
    pub fn receive(&self, into: &mut [IoSliceMut<'_>], peek: bool, waits: bool) -> Answer<(usize, SocketAddr, bool)> {
        let bound = self.bound.borrow();
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let Some(socket) = &*bound else {
            // The end is told to who would wait for it.
            return if self.shut_read.get() && waits { Ok((0, nobody, true)) } else { Err(Errno::AGAIN) };
        };
        let mut from = nobody;
        let mut fill = filling(into, 0);
        let mut put = |bytes: &[u8], sender: SocketAddr| {
            fill(bytes);
            from = sender;
        };
        // It sees the whole datagram, and keeps what there is room for.
        let (whole, more) = match peek {
            true => (socket.try_peek_with(usize::MAX, &mut put)?, true),
            false => socket.try_recv_on(usize::MAX, &mut put)?,
        };
        Ok((whole, from, more))
    }

    /// Where a datagram from `from` was sent to: the socket's own address, or the machine's that leads to the sender.
    pub fn destination(&self, from: SocketAddr) -> Answer<IpAddr> {
        Ok(match self.name()? {
            Some(own) if !own.ip().is_unspecified() => own.ip(),
            _ if from.ip().is_loopback() => from.ip(),
            _ => {
                let [_, outward] = sim_net::interfaces()?;
                let of_family = |ip: &IpAddr| ip.is_ipv4() == from.is_ipv4();
                outward.addresses.iter().map(|(ip, _)| *ip).find(of_family).unwrap_or(from.ip())
            }
        })
    }

    pub fn unread(&self) -> Answer<usize> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.unread()?),
            None => Ok(0),
        }
    }

    pub fn name(&self) -> Answer<Option<SocketAddr>> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(Some(socket.local_addr()?)),
            None => Ok(None),
        }
    }

    pub fn peer(&self) -> Answer<SocketAddr> {
        match &*self.bound.borrow() {
            Some(socket) => Ok(socket.peer_addr()?),
            None => Err(Errno(libc::ENOTCONN)),
        }
    }

    pub fn take_error(&self) -> Option<Errno> {
        self.bound.borrow().as_ref()?.take_error().ok()?.map(Errno::from)
    }

    pub fn apply(&self, options: &Options) {
        if let Some(socket) = &*self.bound.borrow() {
            let _already_gone = socket
                .set_broadcast(options.broadcast != 0)
                .and(socket.set_ttl(options.hops as u32))
                .and(socket.set_receive_buffer(options.receive_asked.map(|n| (n.max(0) as u32).saturating_mul(2))));
        }
    }
}
