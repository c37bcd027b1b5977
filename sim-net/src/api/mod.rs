//! Handles and poll functions over the model: wakers, `io::Error`, the running [`World`].
//!
//! A handle is a number and a generation. Dropping it closes the socket, unless its World has ended or its machine has
//! died: then there is nothing left to close. Nothing is taken from a socket before a poll returns it, so a future that
//! is dropped while it waits loses nothing. Every function may be called by several tasks at once; all are woken.
//!
//! Besides the wakers of polls, which are used up by one wake, each socket can have one *observer*: a waker that stays,
//! and hears of every event for which Linux would call a socket's wait queue. It is what an epoll is made from.

mod pipe;
mod readiness;
mod tcp;
mod udp;
mod unix;
mod wakers;

pub use pipe::Pipe;
pub use readiness::{News, Readiness};
pub use tcp::{TcpBound, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixSocket, unix_is_bound, unix_unlink};

use crate::model::{Attempt, Config, Effect, Errno, Interface, Network, PipeEnd};
use sim_core::{Death, Device, DeviceCx, NodeId, World, waiting_for};
use std::io;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use wakers::Watch;

const NO_WORLD: &str = "there is no reactor running, must be called from the context of a Tokio 1.x runtime";

/// The network of one World: plug it in with [`World::plug`], then use [`TcpStream`], [`TcpListener`] and [`UdpSocket`].
/// What plans and tests do to it (block, partition, hold, lose) are methods of [`Network`], which this is one of.
pub struct Net {
    network: Network,
    /// Tells the networks of this process apart, so that a handle of an earlier run closes nothing in a later one.
    epoch: u32,
    streams: Vec<[Watch; 2]>,
    listeners: Vec<Watch>,
    sockets: Vec<Watch>,
    unix: Vec<Watch>,
    pipes: Vec<[Watch; 2]>,
}

impl Default for Net {
    fn default() -> Self {
        Net::new()
    }
}

impl Net {
    /// A network with the default [`Config`].
    pub fn new() -> Net {
        Net::with_config(Config::default())
    }

    /// A network of these sizes and links.
    pub fn with_config(config: Config) -> Net {
        static EPOCHS: AtomicU32 = AtomicU32::new(0);
        Net {
            network: Network::new(config),
            epoch: EPOCHS.fetch_add(1, Ordering::Relaxed),
            streams: Vec::new(),
            listeners: Vec::new(),
            sockets: Vec::new(),
            unix: Vec::new(),
            pipes: Vec::new(),
        }
    }

    /// Wakes whoever waits for what has happened.
    #[inline]
    fn tell(&mut self, cx: &mut DeviceCx<'_>) {
        for effect in self.network.effects().drain(..) {
            let (watch, news) = match effect {
                Effect::Readable { slot, side } => (of_side(&mut self.streams, slot, side), News::READ),
                Effect::Writable { slot, side } => (of_side(&mut self.streams, slot, side), News::WRITE),
                Effect::Acceptable(slot) => (self.listeners.get_mut(slot as usize), News::READ),
                Effect::Received(slot) => (self.sockets.get_mut(slot as usize), News::READ),
                Effect::Unix { slot, read, write } => (self.unix.get_mut(slot as usize), News { read, write }),
                Effect::Pipe { slot, end: PipeEnd::Read } => (of_side(&mut self.pipes, slot, 0), News::READ),
                Effect::Pipe { slot, end: PipeEnd::Write } => (of_side(&mut self.pipes, slot, 1), News::WRITE),
            };
            if let Some(watch) = watch {
                watch.tell(news, cx);
            }
        }
    }
}

fn of_side(list: &mut [[Watch; 2]], slot: u32, side: u8) -> Option<&mut Watch> {
    list.get_mut(slot as usize).map(|w| &mut w[side as usize])
}

/// A place in a list that grows as it is asked for.
fn slot<T: Default>(list: &mut Vec<T>, slot: u32) -> &mut T {
    if list.len() <= slot as usize {
        list.resize_with(slot as usize + 1, T::default);
    }
    &mut list[slot as usize]
}

impl Deref for Net {
    type Target = Network;
    fn deref(&self) -> &Network {
        &self.network
    }
}

impl DerefMut for Net {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.network
    }
}

impl Device for Net {
    fn name(&self) -> &'static str {
        "net"
    }

    #[inline]
    fn on_event(&mut self, token: u64, cx: &mut DeviceCx<'_>) {
        self.network.on_event(token, cx);
        self.tell(cx);
    }

    fn node_added(&mut self, node: NodeId, name: &str, _cx: &mut DeviceCx<'_>) {
        self.network.node_added(node, name);
    }

    fn node_started(&mut self, node: NodeId, _cx: &mut DeviceCx<'_>) {
        self.network.node_started(node);
    }

    fn node_died(&mut self, node: NodeId, how: Death, cx: &mut DeviceCx<'_>) {
        self.network.node_died(node, how, cx);
        self.tell(cx);
    }
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

fn world() -> &'static World {
    match World::current() {
        Some(world) => world,
        None => panic!("{NO_WORLD}"),
    }
}

/// Gives the network to `f` if the handle is of this run.
#[inline]
fn on<R>(epoch: u32, f: impl FnOnce(&mut Net, &mut DeviceCx<'_>) -> Result<R, Errno>) -> io::Result<R> {
    let result = world().with_device(|net: &mut Net, cx| {
        if net.epoch != epoch {
            return Err(Errno::EBADF);
        }
        let result = f(net, cx);
        net.tell(cx);
        result
    });
    result.map_err(error)
}

/// Gives the network to `f`, acting for a node that lives.
fn as_node<R>(call: &str, f: impl FnOnce(&mut Net, NodeId, &mut DeviceCx<'_>) -> Result<R, Errno>) -> io::Result<R> {
    let world = world();
    let node = world.acting_node();
    assert!(
        node != NodeId::OUTSIDE,
        "{call} was called outside the machines, where there is no address: run it on one, as in \
         sim.node(\"client\").run(...)"
    );
    within(f)
}

/// The same for what never leaves the machine, and may stand outside the machines as well.
fn within<R>(f: impl FnOnce(&mut Net, NodeId, &mut DeviceCx<'_>) -> Result<R, Errno>) -> io::Result<R> {
    let world = world();
    let node = world.acting_node();
    if !world.actor_lives() {
        return Err(error(Errno::ENETDOWN));
    }
    let result = world.with_device(|net: &mut Net, cx| {
        let result = f(net, node, cx);
        net.tell(cx);
        result
    });
    result.map_err(error)
}

/// The same when a handle is dropped: nothing happens without its World.
fn on_drop(epoch: u32, f: impl FnOnce(&mut Net, &mut DeviceCx<'_>)) {
    let Some(world) = World::current().filter(|w| w.has_device::<Net>()) else { return };
    world.with_device(|net: &mut Net, cx| {
        if net.epoch == epoch {
            f(net, cx);
            net.tell(cx);
        }
    });
}

/// An attempt as a poll; `wait` keeps the waker if there is nothing yet.
#[inline]
fn poll<R>(
    epoch: u32,
    cx: &mut Context<'_>,
    what: &'static str,
    attempt: impl FnOnce(&mut Net, &mut DeviceCx<'_>) -> Attempt<R>,
    wait: impl FnOnce(&mut Net, &Waker),
) -> Poll<io::Result<R>> {
    let waker = cx.waker();
    let done = on(epoch, |net, cx| {
        let done = attempt(net, cx)?;
        if done.is_none() {
            wait(net, waker);
        }
        Ok(done)
    });
    match done {
        Ok(Some(value)) => Poll::Ready(Ok(value)),
        Ok(None) => {
            waiting_for(what);
            Poll::Pending
        }
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// An attempt that does not wait: `ErrorKind::WouldBlock` if there is nothing yet.
#[inline]
fn attempt<R>(epoch: u32, f: impl FnOnce(&mut Net, &mut DeviceCx<'_>) -> Attempt<R>) -> io::Result<R> {
    // EAGAIN with its number, as a system call gives it.
    on(epoch, f)?.ok_or_else(|| io::Error::from_raw_os_error(11))
}

/// Puts bytes into a slice, one part after the other.
fn filling(out: &mut [u8]) -> impl FnMut(&[u8]) + '_ {
    let mut at = 0;
    move |bytes| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    }
}

/// The addresses of a name as seen from any node.
///
/// # Errors
/// The error of `getaddrinfo` for a name that nobody has.
///
/// # Panics
/// Outside a World.
pub fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = world().with_device(|net: &mut Net, _| net.lookup(name));
    found.ok_or_else(|| io::Error::other("failed to lookup address information: Name or service not known"))
}

/// The name of an address: `localhost`, or that of the node that has it.
///
/// # Panics
/// Outside a World.
pub fn reverse(ip: IpAddr) -> Option<String> {
    world().with_device(|net: &mut Net, _| net.reverse(ip).map(str::to_owned))
}

/// The interfaces of the acting node: `lo` and `eth0`.
///
/// # Errors
/// ENETDOWN for a dead program.
///
/// # Panics
/// Outside the machines.
pub fn interfaces() -> io::Result<[Interface; 2]> {
    as_node("getifaddrs", |net, node, _| Ok(net.interfaces(node)))
}
