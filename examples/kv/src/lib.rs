//! A replicated register store: three or five servers, any of which may be asked, and no write that was acknowledged
//! is lost while a majority of them survives.
//!
//! It is an ordinary tokio program, written to be run for real; `cargo run -p kv -- demo` does so. It is also what the
//! simulator's own tests run, so five bugs are planted in it ([`Bug`]), each off unless a [`Config`] asks for it.
//!
//! # How it works
//!
//! Every key names a *register*: a value and the [`Version`] it was written under. Each server is a [`replica`] that
//! holds all registers in memory and in a log on disk, and a [`coordinator`] that serves clients by asking all
//! replicas and waiting for a majority (the register of Attiya, Bar-Noy and Dolev, "Sharing memory robustly in
//! message-passing systems", 1995, with the several writers of Lynch and Shvartsman, 1997).
//!
//! A **read** asks a majority for their registers and takes the one of the highest version. Unless that majority
//! agreed, it writes that register back to a majority before it answers.
//!
//! A **write** takes two requests. `GET /next/KEY` asks a majority for its highest counter and has no effect. The client
//! then writes under the version *(counter + 1, its idempotency key)*: `PUT /kv/KEY` stores the register on a majority.
//! The client chooses the version once and repeats the second request, unchanged, through any server, until it is
//! acknowledged.
//!
//! # Why it is right
//!
//! 1. *A replica's register only grows.* It stores a register only if its version is higher than the one it holds, its
//!    log is synced before memory changes, and both memory and acknowledgements speak only of what is synced. So
//!    what a replica has answered stays true through any crash, and of one replica's answers the later is the higher.
//! 2. *A version names one value.* The idempotency key is part of the version, a client gives each of its writes another
//!    key, and clients have different identities. So storing a register twice, late, or out of order is the same as
//!    storing it once: a repeated `PUT` needs no memory of the first.
//! 3. *What an operation returned, every later operation sees.* When a read or write of version v is over, a majority holds v
//!    or higher: the write stored it there; the read wrote it back there, or found it there. An operation that begins
//!    later asks a majority, which shares a replica with the first one, and by 1 that replica answers v or higher. So
//!    a later read returns v or higher, and a later write takes a version above v.
//!
//! Ordering operations by version, writes before the reads of the same version, therefore agrees with real time and
//! gives every read the value of the last write before it: the registers are linearizable, whether
//! operations that nobody saw the end of took effect or not.
//!
//! What is assumed: a disk keeps what it has synced, and tells when it cannot sync (rot of synced sectors is
//! beyond this program); client identities differ. Nothing is assumed of clocks or of message delays.

pub mod check;
mod client;
mod config;
pub mod coordinator;
mod log;
mod record;
mod register;
mod remote;
pub mod replica;
mod server;
pub mod workload;

pub use client::{Client, Error, Read};
pub use config::{Bug, Config};
pub use register::{MAX_KEY_BYTES, MAX_VALUE_BYTES, Register, Version, Writer, check_key};
pub use server::{serve, serve_until};

/// The servers of the default cluster, as clients take them: `kv0:7000,kv1:7000,kv2:7000`.
pub const CLUSTER: &str = "kv0:7000,kv1:7000,kv2:7000";
