//! tokio's traits and adapters: they need no runtime, so the real code runs here.
//!
//! # Simulation
//! Absent: `stdin`, `stdout`, `stderr` and `unix::AsyncFd`, which would need the real blocking pool or the real driver.

pub use real::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWrite, AsyncWriteExt,
    BufReader, BufStream, BufWriter, Chain, DuplexStream, Empty, Error, ErrorKind, Interest, Join, Lines, ReadBuf,
    ReadHalf, Ready, Repeat, Result, SeekFrom, SimplexStream, Sink, Split, Take, WriteHalf, copy, copy_bidirectional,
    copy_bidirectional_with_sizes, copy_buf, duplex, empty, join, repeat, simplex, sink, split,
};
