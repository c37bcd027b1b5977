//! Names and interfaces as libc tells them: getaddrinfo, getnameinfo, gethostbyname, getifaddrs and their kin.
//!
//! Names are those of the run's nodes, services those of sim-net's table; nothing is asked over a network, so nothing is
//! slow or stale. What is given is laid out as glibc does it, in blocks of malloc, so that glibc's own functions free it.
//!
//! What is deliberately absent: the resolver's own interface (`res_query` and the like), which ends the run as escaped.

use super::address::{self, Address, Bytes, Given};
use crate::interpose::real::real;
use crate::interpose::{Symbol, errno, world};
use libc::{addrinfo, hostent, ifaddrs, sockaddr, socklen_t};
use sim_core::{NodeId, World};
use sim_net::{Interface, Net, numeric_host, service_name, service_port};
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The World, if its names are to be asked.
fn with_names() -> Option<&'static World> {
    world().filter(|world| world.has_device::<Net>())
}

/// # Safety
/// `at` is a C string, or null.
unsafe fn text<'a>(at: *const c_char) -> Option<&'a str> {
    if at.is_null() {
        return None;
    }
    // SAFETY: the caller's promise. What is no UTF-8 is nobody's name.
    Some(unsafe { CStr::from_ptr(at) }.to_str().unwrap_or("?"))
}

/// A block of malloc, filled with zeros; `None` if there is no memory.
fn block(len: usize) -> Option<*mut u8> {
    // SAFETY: calloc takes any sizes.
    let made = unsafe { libc::calloc(1, len.max(1)) }.cast::<u8>();
    (!made.is_null()).then_some(made)
}

/// A copy of `bytes` in a block of malloc, with a zero byte behind it.
fn c_string(bytes: &[u8]) -> Option<*mut c_char> {
    let made = block(bytes.len() + 1)?;
    // SAFETY: the block was made for as many bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), made, bytes.len()) };
    Some(made.cast())
}

/// Kind and protocol of the sockets that an address is given for.
const KINDS: [(i32, i32); 3] =
    [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP), (libc::SOCK_RAW, libc::IPPROTO_IP)];

/// What getaddrinfo was asked.
struct Asked<'a> {
    host: Option<&'a str>,
    service: Option<&'a str>,
    flags: i32,
    family: i32,
    kind: i32,
    protocol: i32,
}

impl Asked<'_> {
    /// The addresses and the kinds of sockets that were asked for, or an error of getaddrinfo.
    fn answer(&self) -> Result<Vec<(SocketAddr, i32, i32)>, i32> {
        let known = libc::AI_PASSIVE
            | libc::AI_CANONNAME
            | libc::AI_NUMERICHOST
            | libc::AI_NUMERICSERV
            | libc::AI_V4MAPPED
            | libc::AI_ALL
            | libc::AI_ADDRCONFIG;
        if self.flags & !known != 0 || (self.flags & libc::AI_CANONNAME != 0 && self.host.is_none()) {
            return Err(libc::EAI_BADFLAGS);
        }
        if self.host.is_none() && self.service.is_none() {
            return Err(libc::EAI_NONAME);
        }
        if ![libc::AF_UNSPEC, libc::AF_INET, libc::AF_INET6].contains(&self.family) {
            return Err(libc::EAI_FAMILY);
        }
        let fits = |(kind, protocol): &(i32, i32)| {
            (self.kind == 0 || self.kind == *kind)
                && (self.protocol == 0 || *protocol == self.protocol || *kind == libc::SOCK_RAW)
        };
        let kinds: Vec<(i32, i32)> = KINDS.into_iter().filter(fits).collect();
        if kinds.is_empty() {
            return Err(if self.kind != 0 && self.protocol == 0 { libc::EAI_SOCKTYPE } else { libc::EAI_SERVICE });
        }
        let addresses = self.addresses()?;
        let mut found = Vec::new();
        for ip in addresses {
            for (kind, protocol) in &kinds {
                if let Some(port) = self.port(*kind)? {
                    found.push((SocketAddr::new(ip, port), *kind, *protocol));
                }
            }
        }
        if found.is_empty() { Err(libc::EAI_SERVICE) } else { Ok(found) }
    }

    /// The port that the service has for such sockets; `None` if it has none.
    fn port(&self, kind: i32) -> Result<Option<u16>, i32> {
        let Some(service) = self.service else { return Ok(Some(0)) };
        if let Ok(port) = service.parse() {
            return Ok(Some(port));
        }
        if self.flags & libc::AI_NUMERICSERV != 0 {
            return Err(libc::EAI_NONAME);
        }
        Ok(if kind == libc::SOCK_RAW { None } else { service_port(service, kind == libc::SOCK_DGRAM) })
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, i32> {
        let all: Vec<IpAddr> = match self.host {
            None if self.flags & libc::AI_PASSIVE != 0 => {
                vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            }
            None => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
            Some(host) => match numeric_host(host) {
                Some(ip) => vec![ip],
                None if self.flags & libc::AI_NUMERICHOST != 0 => return Err(libc::EAI_NONAME),
                None => sim_net::lookup(host).map_err(|_| libc::EAI_NONAME)?,
            },
        };
        let v4: Vec<IpAddr> = all.iter().copied().filter(IpAddr::is_ipv4).collect();
        let v6: Vec<IpAddr> = all.iter().copied().filter(IpAddr::is_ipv6).collect();
        let mapped = |v4: &[IpAddr]| -> Vec<IpAddr> {
            let map = |ip: &IpAddr| match ip {
                IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
                ip => *ip,
            };
            v4.iter().map(map).collect()
        };
        let wanted = match self.family {
            libc::AF_INET => v4,
            libc::AF_INET6 if self.flags & libc::AI_V4MAPPED != 0 && v6.is_empty() => mapped(&v4),
            libc::AF_INET6 if self.flags & (libc::AI_V4MAPPED | libc::AI_ALL) == libc::AI_V4MAPPED | libc::AI_ALL => {
                [v6, mapped(&v4)].concat()
            }
            libc::AF_INET6 => v6,
            _ => all,
        };
        match (wanted.is_empty(), self.host.and_then(numeric_host)) {
            (false, _) => Ok(wanted),
            // glibc: an address in figures of the other family, EAI_ADDRFAMILY; a name without any of this one.
            (true, Some(_)) => Err(-9),
            (true, None) => Err(libc::EAI_NODATA),
        }
    }
}

/// One result in one block, as glibc frees it: the record and behind it the address.
fn record((addr, kind, protocol): (SocketAddr, i32, i32)) -> Option<*mut addrinfo> {
    let bytes = Bytes::of_ip(addr);
    let at = block(size_of::<addrinfo>() + size_of::<libc::sockaddr_in6>())?;
    let mut len = size_of::<libc::sockaddr_in6>() as u32;
    // SAFETY: the block holds a record and the longest address behind it, and is aligned for anything.
    unsafe {
        let address = at.add(size_of::<addrinfo>());
        let _fits = bytes.write(address, &mut len);
        at.cast::<addrinfo>().write(addrinfo {
            ai_flags: 0,
            ai_family: if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 },
            ai_socktype: kind,
            ai_protocol: protocol,
            ai_addrlen: len,
            ai_addr: address.cast(),
            ai_canonname: std::ptr::null_mut(),
            ai_next: std::ptr::null_mut(),
        });
    }
    Some(at.cast())
}

/// # Safety
/// As getaddrinfo(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getaddrinfo(
    host: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    out: *mut *mut addrinfo,
) -> i32 {
    if with_names().is_none() {
        return real!(
            getaddrinfo(host, service, hints, out):
                fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> i32,
            else libc::EAI_SYSTEM
        );
    }
    // SAFETY: the caller's promise: C strings and a record, or null; a place for the result.
    unsafe {
        let mut asked = Asked { host: text(host), service: text(service), flags: 0, family: 0, kind: 0, protocol: 0 };
        match hints.as_ref() {
            Some(h) => {
                (asked.flags, asked.family) = (h.ai_flags, h.ai_family);
                (asked.kind, asked.protocol) = (h.ai_socktype, h.ai_protocol);
            }
            None => asked.flags = libc::AI_V4MAPPED | libc::AI_ADDRCONFIG,
        }
        let found = match asked.answer() {
            Ok(found) => found,
            Err(error) => return error,
        };
        let mut next: *mut addrinfo = std::ptr::null_mut();
        for one in found.into_iter().rev() {
            let Some(made) = record(one) else {
                libc::freeaddrinfo(next);
                return libc::EAI_MEMORY;
            };
            (*made).ai_next = next;
            next = made;
        }
        if asked.flags & libc::AI_CANONNAME != 0
            && let Some(name) = c_string(asked.host.unwrap_or_default().as_bytes())
        {
            (*next).ai_canonname = name;
        }
        out.write(next);
    }
    0
}

/// Writes a text with its zero byte, if there is room.
///
/// # Safety
/// `at` is valid for `len` bytes, or null.
unsafe fn put(text: &str, at: *mut c_char, len: usize) -> Result<(), i32> {
    if at.is_null() || len == 0 {
        return Ok(());
    }
    if text.len() >= len {
        return Err(libc::EAI_OVERFLOW);
    }
    // SAFETY: the caller's promise; the length was checked.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
        at.add(text.len()).write(0);
    }
    Ok(())
}

/// # Safety
/// As getnameinfo(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getnameinfo(
    addr: *const sockaddr,
    addr_len: socklen_t,
    host: *mut c_char,
    host_len: socklen_t,
    service: *mut c_char,
    service_len: socklen_t,
    flags: i32,
) -> i32 {
    if with_names().is_none() {
        return real!(
            getnameinfo(addr, addr_len, host, host_len, service, service_len, flags):
                fn(*const sockaddr, socklen_t, *mut c_char, socklen_t, *mut c_char, socklen_t, i32) -> i32,
            else libc::EAI_SYSTEM
        );
    }
    // SAFETY: the caller's promise.
    let Ok(Given { address: Address::Ip(addr), .. }) = (unsafe { address::read(addr.cast(), addr_len) }) else {
        return libc::EAI_FAMILY;
    };
    let named = if flags & libc::NI_NUMERICHOST == 0 { sim_net::reverse(addr.ip()) } else { None };
    if named.is_none() && flags & libc::NI_NAMEREQD != 0 {
        return libc::EAI_NONAME;
    }
    let port = match service_name(addr.port(), flags & libc::NI_DGRAM != 0) {
        Some(name) if flags & libc::NI_NUMERICSERV == 0 => name.to_owned(),
        _ => addr.port().to_string(),
    };
    // SAFETY: the caller's promise.
    let done = unsafe {
        put(&named.unwrap_or_else(|| addr.ip().to_string()), host, host_len as usize)
            .and_then(|()| put(&port, service, service_len as usize))
    };
    done.err().unwrap_or(0)
}

// ---- gethostbyname ----------------------------------------------------------------------------------------------------

/// What gethostbyname points to: of one thread, until it asks again.
struct Host {
    entry: hostent,
    name: [c_char; 256],
    addresses: [[u8; 16]; 16],
    list: [*mut c_char; 17],
    aliases: [*mut c_char; 1],
}

thread_local! {
    static HOST: UnsafeCell<Host> = const {
        UnsafeCell::new(Host {
            entry: hostent {
                h_name: std::ptr::null_mut(),
                h_aliases: std::ptr::null_mut(),
                h_addrtype: 0,
                h_length: 0,
                h_addr_list: std::ptr::null_mut(),
            },
            name: [0; 256],
            addresses: [[0; 16]; 16],
            list: [std::ptr::null_mut(); 17],
            aliases: [std::ptr::null_mut()],
        })
    };
}

/// Fills `host` with what `name` is; false if nobody is called that.
fn look_up(host: *mut Host, name: &str, family: i32) -> bool {
    let asked = Asked { host: Some(name), service: None, flags: 0, family, kind: libc::SOCK_STREAM, protocol: 0 };
    let Ok(found) = asked.addresses() else { return false };
    // SAFETY: the caller owns the record; what is written into it is cut to its room.
    unsafe {
        let host = &mut *host;
        let len = name.len().min(host.name.len() - 1);
        std::ptr::copy_nonoverlapping(name.as_ptr().cast(), host.name.as_mut_ptr(), len);
        host.name[len] = 0;
        let shown = found.len().min(host.addresses.len());
        for (place, ip) in host.addresses.iter_mut().zip(&found) {
            match ip {
                IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => *place = ip.octets(),
            }
        }
        for i in 0..shown {
            host.list[i] = host.addresses[i].as_mut_ptr().cast();
        }
        host.list[shown] = std::ptr::null_mut();
        host.entry = hostent {
            h_name: host.name.as_mut_ptr(),
            h_aliases: host.aliases.as_mut_ptr(),
            h_addrtype: family,
            h_length: if family == libc::AF_INET { 4 } else { 16 },
            h_addr_list: host.list.as_mut_ptr(),
        };
    }
    true
}

unsafe extern "C" {
    fn __h_errno_location() -> *mut i32;
}

const HOST_NOT_FOUND: i32 = 1;

/// # Safety
/// As gethostbyname2(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gethostbyname2(name: *const c_char, family: i32) -> *mut hostent {
    if with_names().is_none() {
        return real!(
            gethostbyname2(name, family): fn(*const c_char, i32) -> *mut hostent,
            else std::ptr::null_mut()
        );
    }
    // SAFETY: the caller's promise; the record is this thread's own.
    unsafe {
        let host = HOST.with(UnsafeCell::get);
        let found = text(name).is_some_and(|name| look_up(host, name, family));
        if !found {
            *__h_errno_location() = HOST_NOT_FOUND;
            return std::ptr::null_mut();
        }
        &raw mut (*host).entry
    }
}

/// # Safety
/// As gethostbyname(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gethostbyname(name: *const c_char) -> *mut hostent {
    if with_names().is_none() {
        return real!(gethostbyname(name): fn(*const c_char) -> *mut hostent, else std::ptr::null_mut());
    }
    // SAFETY: the caller's promise.
    unsafe { gethostbyname2(name, libc::AF_INET) }
}

/// # Safety
/// As gethostbyname_r(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gethostbyname_r(
    name: *const c_char,
    out: *mut hostent,
    buffer: *mut c_char,
    len: usize,
    result: *mut *mut hostent,
    error: *mut i32,
) -> i32 {
    if with_names().is_none() {
        return real!(
            gethostbyname_r(name, out, buffer, len, result, error):
                fn(*const c_char, *mut hostent, *mut c_char, usize, *mut *mut hostent, *mut i32) -> i32,
            else libc::ENOSYS
        );
    }
    let skip = buffer.align_offset(align_of::<Host>());
    // SAFETY: the caller's promise: a buffer of `len` bytes, of which what is used was checked, and places for results.
    unsafe {
        result.write(std::ptr::null_mut());
        if len < size_of::<Host>().saturating_add(skip) {
            return libc::ERANGE;
        }
        let host = buffer.add(skip).cast::<Host>();
        std::ptr::write_bytes(host, 0, 1);
        if text(name).is_some_and(|name| look_up(host, name, libc::AF_INET)) {
            out.write((*host).entry);
            result.write(out);
        } else {
            error.write(HOST_NOT_FOUND);
        }
    }
    0
}

// ---- interfaces -------------------------------------------------------------------------------------------------------

/// The interfaces of the acting node.
fn interfaces(world: &World) -> Option<[Interface; 2]> {
    if world.acting_node() == NodeId::OUTSIDE {
        let _says_why = super::on_a_machine(world, "getifaddrs");
        return None;
    }
    sim_net::interfaces().ok()
}

/// One entry of getifaddrs' list, in the one block that glibc frees.
#[repr(C)]
struct Entry {
    list: ifaddrs,
    name: [c_char; 16],
    address: libc::sockaddr_storage,
    mask: libc::sockaddr_storage,
    broadcast: libc::sockaddr_storage,
}

fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    let ones = |width: u32| u128::MAX.checked_shl(width - (prefix as u32).min(width)).unwrap_or(0);
    match ip {
        IpAddr::V4(_) => Ipv4Addr::from(ones(32) as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(ones(128)).into(),
    }
}

/// # Safety
/// As getifaddrs(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getifaddrs(out: *mut *mut ifaddrs) -> i32 {
    let Some(world) = with_names() else {
        return real!(getifaddrs(out): fn(*mut *mut ifaddrs) -> i32, else -1);
    };
    let Some(interfaces) = interfaces(world) else { return errno(-libc::ENETDOWN as i64) as i32 };
    let all: Vec<(&Interface, Option<(IpAddr, u8)>)> = {
        let links = interfaces.iter().map(|i| (i, None));
        let addresses = interfaces.iter().flat_map(|i| i.addresses.iter().map(move |a| (i, Some(*a))));
        links.chain(addresses).collect()
    };
    let Some(at) = block(all.len() * size_of::<Entry>()) else { return errno(-libc::ENOMEM as i64) as i32 };
    let at = at.cast::<Entry>();
    // SAFETY: the block holds as many entries, all of zeros; each is written once, and the places within it are its own.
    unsafe {
        for (i, (interface, address)) in all.iter().enumerate() {
            let entry = &mut *at.add(i);
            for (place, byte) in entry.name.iter_mut().zip(interface.name.bytes().take(15)) {
                *place = byte as c_char;
            }
            entry.list.ifa_name = entry.name.as_mut_ptr();
            let kind = if interface.loopback { libc::IFF_LOOPBACK } else { libc::IFF_BROADCAST | libc::IFF_MULTICAST };
            entry.list.ifa_flags = (libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_LOWER_UP | kind) as u32;
            entry.list.ifa_addr = (&raw mut entry.address).cast();
            let full = || size_of::<libc::sockaddr_storage>() as u32;
            match address {
                None => {
                    let link = (&raw mut entry.address).cast::<libc::sockaddr_ll>();
                    (*link).sll_family = libc::AF_PACKET as u16;
                    (*link).sll_ifindex = interface.index as i32;
                    (*link).sll_hatype = if interface.loopback { libc::ARPHRD_LOOPBACK } else { libc::ARPHRD_ETHER };
                    (*link).sll_halen = 6;
                    (&mut (*link).sll_addr)[..6].copy_from_slice(&interface.hardware);
                }
                Some((ip, prefix)) => {
                    let put = |ip: IpAddr, place: *mut libc::sockaddr_storage| {
                        let _fits = Bytes::of_ip(SocketAddr::new(ip, 0)).write(place.cast(), &mut full());
                    };
                    put(*ip, &raw mut entry.address);
                    put(mask(*ip, *prefix), &raw mut entry.mask);
                    entry.list.ifa_netmask = (&raw mut entry.mask).cast();
                    if let (IpAddr::V4(ip), IpAddr::V4(mask)) = (ip, mask(*ip, *prefix)) {
                        let last =
                            if interface.loopback { *ip } else { Ipv4Addr::from(ip.to_bits() | !mask.to_bits()) };
                        put(last.into(), &raw mut entry.broadcast);
                        entry.list.ifa_ifu = (&raw mut entry.broadcast).cast();
                    }
                }
            }
            if i > 0 {
                (*at.add(i - 1)).list.ifa_next = &raw mut entry.list;
            }
        }
        out.write(at.cast());
    }
    0
}

/// # Safety
/// As if_nametoindex(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn if_nametoindex(name: *const c_char) -> u32 {
    let Some(world) = with_names() else {
        return real!(if_nametoindex(name): fn(*const c_char) -> u32, else 0);
    };
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let found = interfaces(world).and_then(|all| all.iter().find(|i| Some(i.name) == name).map(|i| i.index));
    found.unwrap_or_else(|| {
        errno(-libc::ENODEV as i64);
        0
    })
}

/// # Safety
/// As if_indextoname(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn if_indextoname(index: u32, out: *mut c_char) -> *mut c_char {
    let Some(world) = with_names() else {
        return real!(
            if_indextoname(index, out): fn(u32, *mut c_char) -> *mut c_char,
            else std::ptr::null_mut()
        );
    };
    let name = interfaces(world).and_then(|all| all.iter().find(|i| i.index == index).map(|i| i.name));
    // SAFETY: the caller's promise: room for IF_NAMESIZE bytes.
    match name.map(|name| unsafe { put(name, out, libc::IF_NAMESIZE) }) {
        Some(Ok(())) => out,
        Some(Err(_)) | None => {
            errno(-libc::ENXIO as i64);
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// As if_nameindex(3). What it gives is freed by glibc's own if_freenameindex: each name, and the list.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn if_nameindex() -> *mut libc::if_nameindex {
    let Some(world) = with_names() else {
        return real!(if_nameindex(): fn() -> *mut libc::if_nameindex, else std::ptr::null_mut());
    };
    let Some(all) = interfaces(world) else { return std::ptr::null_mut() };
    let Some(list) = block((all.len() + 1) * size_of::<libc::if_nameindex>()) else { return std::ptr::null_mut() };
    let list = list.cast::<libc::if_nameindex>();
    for (i, interface) in all.iter().enumerate() {
        let Some(name) = c_string(interface.name.as_bytes()) else { break };
        // SAFETY: the list has room for all, and one of zeros behind them.
        unsafe { list.add(i).write(libc::if_nameindex { if_index: interface.index, if_name: name }) };
    }
    list
}

macro_rules! symbols {
    ($($name:ident)*) => {
        /// All of them, to be linked.
        pub(crate) static SYMBOLS: &[Symbol] = &[$(Symbol::new($name as *const ())),*];
    };
}

symbols! {
    getaddrinfo getnameinfo gethostbyname gethostbyname2 gethostbyname_r getifaddrs if_nametoindex if_indextoname
    if_nameindex
}
