//! The network of a simulated run: nodes with addresses, directed links that delay, lose, duplicate and block, TCP and
//! UDP over them, names.
//!
//! [`Net`] is the device. `model/` is the network as a pure state machine, tested without an executor; `api/` adds
//! wakers and `io::Error`, and is what a runtime's socket types stand on.
//!
//! Chance asks one question for each packet, under an address made of names, ports and ordinals; 0 is the calm packet.
//! Unless configured otherwise, the seed draws delays and split segments only, and none at all in a third of the runs:
//! loss, duplicates and partitions come from plans. Unix sockets, multicast, and routers between nodes are not modelled.

mod api;
mod model;

pub use api::{Net, News, Readiness, TcpBound, TcpListener, TcpStream, UdpSocket, lookup};
pub use model::{Attempt, Config, Effect, Errno, Id, LinkConfig, Network, Odds, Route, StreamId, TcpOptions};
