//! The network of a simulated run: nodes with addresses, directed links that delay, lose, duplicate and block, TCP and
//! UDP over them, names; and what programs of one node talk through.
//!
//! [`Net`] is the device. `model/` is the network as a pure state machine, tested without an executor; `api/` adds
//! wakers and `io::Error`, and is what a runtime's socket types stand on.
//!
//! Chance asks one question for each packet, under an address made of names, ports and ordinals; 0 is the calm packet.
//! Unless configured otherwise, the seed draws delays and split segments only, and none at all in a third of the runs:
//! loss, duplicates and partitions come from plans. Within a node there are Unix sockets and pipes, which no chance strikes. Multicast,
//! broadcast, and routers between nodes are not modelled.

mod api;
mod model;

pub use api::{
    Net, News, Pipe, Readiness, TcpBound, TcpListener, TcpStream, UdpSocket, UnixSocket, interfaces, lookup, reverse,
    unix_is_bound, unix_unlink,
};
pub use model::{
    Attempt, BindOptions, Config, Credentials, Effect, Errno, Id, Interface, KeepAlive, LinkConfig, Network, Odds,
    PipeEnd, Receive, Received, Route, StreamId, StreamState, TcpOptions, UnixKind, numeric_host, service_name,
    service_port,
};
