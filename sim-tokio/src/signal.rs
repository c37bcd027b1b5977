//! Signals to the program of a node. A test sends them with `World::send_signal`, and on Linux a program to itself with kill(2).

use crate::runtime::current::NO_RUNTIME;
use sim_core::World;
use sim_core::signal::{Listener, Signal};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// Ready when the node's program gets SIGINT. From the first poll on, SIGINT no longer ends the program, as in tokio.
///
/// # Panics
/// Outside a runtime.
pub async fn ctrl_c() -> io::Result<()> {
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    interrupt.recv().await;
    Ok(())
}

/// Signals of Unix.
pub mod unix {
    use super::*;

    /// Which signal.
    #[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
    pub struct SignalKind(i32);

    impl SignalKind {
        /// By its number.
        pub const fn from_raw(number: i32) -> SignalKind {
            SignalKind(number)
        }

        /// Its number.
        pub const fn as_raw_value(&self) -> i32 {
            self.0
        }

        /// SIGALRM.
        pub const fn alarm() -> SignalKind {
            SignalKind(14)
        }

        /// SIGCHLD.
        pub const fn child() -> SignalKind {
            SignalKind(17)
        }

        /// SIGHUP.
        pub const fn hangup() -> SignalKind {
            SignalKind(1)
        }

        /// SIGINT.
        pub const fn interrupt() -> SignalKind {
            SignalKind(2)
        }

        /// SIGPIPE.
        pub const fn pipe() -> SignalKind {
            SignalKind(13)
        }

        /// SIGQUIT.
        pub const fn quit() -> SignalKind {
            SignalKind(3)
        }

        /// SIGTERM.
        pub const fn terminate() -> SignalKind {
            SignalKind(15)
        }

        /// SIGUSR1.
        pub const fn user_defined1() -> SignalKind {
            SignalKind(10)
        }

        /// SIGUSR2.
        pub const fn user_defined2() -> SignalKind {
            SignalKind(12)
        }

        /// SIGWINCH.
        pub const fn window_change() -> SignalKind {
            SignalKind(28)
        }
    }

    impl From<i32> for SignalKind {
        fn from(number: i32) -> Self {
            SignalKind(number)
        }
    }

    impl From<SignalKind> for i32 {
        fn from(kind: SignalKind) -> Self {
            kind.0
        }
    }

    /// The arrivals of one signal. Several that come between two looks count as one.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Signal {
        listener: Listener,
    }

    /// Listens for a signal, which from now on no longer has its default action.
    ///
    /// # Errors
    /// Those that cannot be caught (SIGILL, SIGFPE, SIGKILL, SIGSEGV, SIGSTOP), and numbers that are none.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn signal(kind: SignalKind) -> io::Result<Signal> {
        // signal-hook-registry's list of the forbidden, and the range of Linux.
        if matches!(kind.0, 4 | 8 | 9 | 11 | 19) {
            return Err(io::Error::other(format!("Refusing to register signal {}", kind.0)));
        }
        if !(0..=64).contains(&kind.0) {
            return Err(io::Error::other("signal too large"));
        }
        let Some(world) = World::current().filter(|w| w.acting_task().is_some()) else { panic!("{NO_RUNTIME}") };
        Ok(Signal { listener: world.listen(super::Signal(kind.0)) })
    }

    impl Signal {
        /// Waits for the next arrival. Cancelling it loses none. Never `None`.
        pub async fn recv(&mut self) -> Option<()> {
            poll_fn(|cx| self.poll_recv(cx)).await
        }

        /// Polls for the next arrival.
        pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
            let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
            if self.listener.poll_arrived(world, cx.waker()) { Poll::Ready(Some(())) } else { Poll::Pending }
        }
    }
}
