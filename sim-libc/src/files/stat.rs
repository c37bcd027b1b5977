//! What is known of a file, in libc's structures.

use super::open::device_of;
use sim_core::World;
use sim_disk::{FileKind, Stamp, Stat};

/// The kind of a directory's entry, as `d_type` says it.
pub(super) fn entry_kind(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => libc::DT_REG,
        FileKind::Dir => libc::DT_DIR,
        FileKind::Link => libc::DT_LNK,
        FileKind::Socket => libc::DT_SOCK,
        FileKind::Foreign => libc::DT_UNKNOWN,
    }
}

fn mode(stat: &Stat) -> u32 {
    let kind = match stat.kind {
        FileKind::File => libc::S_IFREG,
        FileKind::Dir => libc::S_IFDIR,
        FileKind::Link => libc::S_IFLNK,
        FileKind::Socket => libc::S_IFSOCK,
        FileKind::Foreign => libc::S_IFCHR,
    };
    kind | stat.mode
}

/// Seconds since 1970 and nanoseconds, by the wall clock of the run.
fn time(world: &World, stamp: Stamp) -> (i64, u32) {
    match stamp {
        Stamp::Wall(seconds, ns) => (seconds, ns),
        Stamp::At(at) => {
            let ns = world.wall_start_ns().saturating_add(at.0);
            ((ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as u32)
        }
    }
}

/// For stat(2).
pub(super) fn fill(world: &World, stat: &Stat) -> libc::stat {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut out: libc::stat = unsafe { std::mem::zeroed() };
    let (dev, ino) = stat.below.unwrap_or((device_of(world.acting_node(), world.acting_incarnation()), stat.ino));
    (out.st_dev, out.st_ino) = (dev, ino);
    (out.st_mode, out.st_nlink) = (mode(stat), stat.links as u64);
    (out.st_uid, out.st_gid) = stat.owner;
    (out.st_size, out.st_blksize, out.st_blocks) = (stat.len as i64, 4096, stat.allocated.div_ceil(512) as i64);
    let [read, written, changed] = stat.times.map(|t| time(world, t));
    (out.st_atime, out.st_atime_nsec) = (read.0, read.1 as i64);
    (out.st_mtime, out.st_mtime_nsec) = (written.0, written.1 as i64);
    (out.st_ctime, out.st_ctime_nsec) = (changed.0, changed.1 as i64);
    out
}

/// For statx(2): everything that `stat` has, and no time of birth.
pub(crate) fn extended(plain: &libc::stat) -> libc::statx {
    let time = |seconds: i64, ns: i64| {
        // SAFETY: as above.
        let mut at: libc::statx_timestamp = unsafe { std::mem::zeroed() };
        (at.tv_sec, at.tv_nsec) = (seconds, ns as u32);
        at
    };
    // SAFETY: as above.
    let mut out: libc::statx = unsafe { std::mem::zeroed() };
    out.stx_mask = libc::STATX_BASIC_STATS;
    out.stx_blksize = 4096;
    (out.stx_nlink, out.stx_uid, out.stx_gid) = (plain.st_nlink as u32, plain.st_uid, plain.st_gid);
    (out.stx_mode, out.stx_ino) = (plain.st_mode as u16, plain.st_ino);
    (out.stx_size, out.stx_blocks) = (plain.st_size as u64, plain.st_blocks as u64);
    (out.stx_dev_major, out.stx_dev_minor) = (libc::major(plain.st_dev), libc::minor(plain.st_dev));
    out.stx_atime = time(plain.st_atime, plain.st_atime_nsec);
    out.stx_mtime = time(plain.st_mtime, plain.st_mtime_nsec);
    out.stx_ctime = time(plain.st_ctime, plain.st_ctime_nsec);
    out
}

/// For statfs(2): total and free pages of an ext4.
pub(super) fn fill_system(total: u64, free: u64) -> libc::statfs {
    // SAFETY: as above.
    let mut out: libc::statfs = unsafe { std::mem::zeroed() };
    out.f_type = libc::EXT4_SUPER_MAGIC;
    (out.f_bsize, out.f_frsize, out.f_namelen) = (4096, 4096, 255);
    (out.f_blocks, out.f_bfree, out.f_bavail) = (total, free, free);
    (out.f_files, out.f_ffree) = (1 << 24, 1 << 23);
    out
}
