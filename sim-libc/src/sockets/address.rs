//! Addresses as the kernel lays them out: `sockaddr_in`, `sockaddr_in6`, `sockaddr_un`.

use crate::descriptors::{Answer, Errno};
use std::mem::{offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The shortest and the longest `sockaddr_in6` that the kernel takes (`SIN6_LEN_RFC2133`).
const V6_LEAST: usize = 24;
const V4: usize = size_of::<libc::sockaddr_in>();
const V6: usize = size_of::<libc::sockaddr_in6>();
/// Where the path of a `sockaddr_un` begins.
const PATH: usize = offset_of!(libc::sockaddr_un, sun_path);

/// An address that a program gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Ip(SocketAddr),
    /// The name of a Unix socket: a path, a name that begins with a zero byte, or nothing.
    Unix(Vec<u8>),
    /// AF_UNSPEC: none at all.
    Unspecified,
    /// Of a family that no socket here has, or too short for its own.
    Strange,
}

/// An address as it was given, with its length, which the kernel looks at before anything else.
pub(crate) struct Given {
    pub address: Address,
    pub len: usize,
}

impl Given {
    /// An address of this family; `None` for one of another.
    pub(crate) fn of_family(&self, family: i32) -> Answer<Option<SocketAddr>> {
        if self.len < if family == libc::AF_INET6 { V6_LEAST } else { V4 } {
            return Err(Errno::INVALID);
        }
        Ok(match self.address {
            Address::Ip(addr) if addr.is_ipv6() == (family == libc::AF_INET6) => Some(addr),
            _ => None,
        })
    }

    /// The same for a call that has one error for all others.
    pub(crate) fn in_family(&self, family: i32) -> Answer<SocketAddr> {
        self.of_family(family)?.ok_or(Errno(libc::EAFNOSUPPORT))
    }
}

/// Reads an address.
///
/// # Safety
/// `at` is valid for `len` bytes, or null.
pub(crate) unsafe fn read(at: *const u8, len: u32) -> Answer<Given> {
    let len = len as usize;
    if len > size_of::<libc::sockaddr_storage>() {
        return Err(Errno::INVALID);
    }
    if at.is_null() {
        return Err(Errno::FAULT);
    }
    if len < 2 {
        return Err(Errno::INVALID);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(at, len) };
    let port = |b: &[u8]| u16::from_be_bytes([b[2], b[3]]);
    let address = match i32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
        libc::AF_UNSPEC => Address::Unspecified,
        libc::AF_INET if len >= V4 => {
            let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
            Address::Ip(SocketAddrV4::new(ip, port(bytes)).into())
        }
        libc::AF_INET6 if len >= V6_LEAST => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&bytes[8..24]);
            Address::Ip(SocketAddrV6::new(Ipv6Addr::from(ip), port(bytes), 0, 0).into())
        }
        libc::AF_UNIX if len <= size_of::<libc::sockaddr_un>() => {
            let name = &bytes[PATH..];
            // A path ends at its zero byte; a name that begins with one is as long as it was given (man 7 unix).
            let end = match name.first() {
                Some(0) | None => name.len(),
                Some(_) => name.iter().position(|b| *b == 0).unwrap_or(name.len()),
            };
            Address::Unix(name[..end].to_vec())
        }
        _ => Address::Strange,
    };
    Ok(Given { address, len })
}

/// An IPv4 address as an IPv6 socket shows it, if this is one.
pub(crate) fn as_shown(addr: SocketAddr, is_v6: bool) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) if is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        _ => addr,
    }
}

/// An address in the kernel's layout.
pub(crate) struct Bytes {
    bytes: [u8; size_of::<libc::sockaddr_storage>()],
    len: usize,
}

impl Bytes {
    pub(crate) fn of_ip(addr: SocketAddr) -> Bytes {
        let mut bytes = [0; size_of::<libc::sockaddr_storage>()];
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let (family, len) = match addr {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, V4)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                (libc::AF_INET6, V6)
            }
        };
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        Bytes { bytes, len }
    }

    /// The address of whoever sent something; none where there is none to show.
    pub(crate) fn of_sender(from: Option<&Address>) -> Bytes {
        match from {
            Some(Address::Ip(addr)) => Bytes::of_ip(*addr),
            Some(Address::Unix(name)) => Bytes::of_unix(name),
            Some(Address::Unspecified | Address::Strange) | None => {
                Bytes { bytes: [0; size_of::<libc::sockaddr_storage>()], len: 0 }
            }
        }
    }

    /// As a socket shows it, of IPv6 or not.
    pub(crate) fn of_family(addr: SocketAddr, is_v6: bool) -> Bytes {
        Bytes::of_ip(as_shown(addr, is_v6))
    }

    pub(crate) fn of_unix(name: &[u8]) -> Bytes {
        let mut bytes = [0; size_of::<libc::sockaddr_storage>()];
        bytes[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
        let name = &name[..name.len().min(bytes.len() - PATH - 1)];
        bytes[PATH..PATH + name.len()].copy_from_slice(name);
        // A path is shown with its zero byte.
        let end = name.first().is_some_and(|b| *b != 0) as usize;
        Bytes { bytes, len: PATH + name.len() + end }
    }

    /// Writes as much as there is room for, and how much there would have been.
    ///
    /// # Safety
    /// `len` is valid for reads and writes, or null; `at` is valid for as many bytes as it says, or null.
    pub(crate) unsafe fn write(&self, at: *mut u8, len: *mut u32) -> Answer<()> {
        if at.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's promise; no more is written than there is room for.
        unsafe {
            let Some(len) = len.as_mut() else { return Err(Errno::FAULT) };
            if (*len as i32) < 0 {
                return Err(Errno::INVALID);
            }
            std::ptr::copy_nonoverlapping(self.bytes.as_ptr(), at, self.len.min(*len as usize));
            *len = self.len as u32;
        }
        Ok(())
    }
}
