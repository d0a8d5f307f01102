//! A kernel that refuses its offloads on demand: a library that is loaded before libc (`LD_PRELOAD`, ld.so(8)) into an
//! agent under test. The agent's own code is unchanged. The results of these calls are controlled by the bytes of a
//! file that both sides have mapped. Each is the errno to return, or zero; that of the clock is the number of hours
//! that it is ahead, signed.
#![allow(unsafe_code, reason = "stands where libc's functions stand, and calls them")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    mem,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

/// The offsets of the bytes in the file that `MESH_FAULTS` names.
const UDP_GSO: usize = 0;
const UDP_GRO: usize = 1;
const TUN_OFFLOADS: usize = 2;
const TUN_GSO: usize = 3;
const CLOCK: usize = 4;
const LENGTH: usize = 5;

/// linux/virtio_net.h: the header's second byte of a TCP super-packet over IPv4, and the header's length.
const GSO_TCPV4: u8 = 1;
const VNET: usize = 10;

/// The errno that is requested at an offset.
fn fault(place: usize) -> Option<c_int> {
    static FILE: OnceLock<Option<&'static [AtomicU8; LENGTH]>> = OnceLock::new();
    let faults = (*FILE.get_or_init(map))?;
    Some(c_int::from(faults[place].load(Ordering::Relaxed))).filter(|errno| *errno != 0)
}

fn map() -> Option<&'static [AtomicU8; LENGTH]> {
    // SAFETY: getenv returns a NUL-terminated text, or nothing; it is used before it can change. The mapping is of a
    // file with at least `LENGTH` bytes, and stays for the life of the process.
    unsafe {
        let path: *const c_char = libc::getenv(c"MESH_FAULTS".as_ptr());
        if path.is_null() {
            return None;
        }
        let file = libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC);
        let mapped = libc::mmap(std::ptr::null_mut(), LENGTH, libc::PROT_READ, libc::MAP_SHARED, file, 0);
        libc::close(file);
        (mapped != libc::MAP_FAILED).then(|| &*mapped.cast::<[AtomicU8; LENGTH]>())
    }
}

/// The function of that name that stands behind ours.
fn real(name: &CStr, known: &OnceLock<usize>) -> usize {
    // SAFETY: `name` ends with zero.
    *known.get_or_init(|| unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize)
}

fn refuse(errno: c_int) {
    // SAFETY: the place of the calling thread's errno is always there.
    unsafe { *libc::__errno_location() = errno };
}

type Sendmsg = unsafe extern "C" fn(c_int, *const libc::msghdr, c_int) -> isize;

/// sendmsg(2): a batch of datagrams (`UDP_SEGMENT`) is refused.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> isize {
    static REAL: OnceLock<usize> = OnceLock::new();
    // SAFETY: the caller's message is a valid one; the real function is one of this type.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(message).as_ref();
        let batch = control.is_some_and(|c| (c.cmsg_level, c.cmsg_type) == (libc::SOL_UDP, libc::UDP_SEGMENT));
        match fault(UDP_GSO).filter(|_| batch) {
            Some(errno) => {
                refuse(errno);
                -1
            }
            None => mem::transmute::<usize, Sendmsg>(real(c"sendmsg", &REAL))(fd, message, flags),
        }
    }
}

type Setsockopt = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, libc::socklen_t) -> c_int;

/// setsockopt(2): `UDP_GRO` is refused.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: libc::socklen_t,
) -> c_int {
    static REAL: OnceLock<usize> = OnceLock::new();
    match fault(UDP_GRO).filter(|_| (level, option) == (libc::SOL_UDP, libc::UDP_GRO)) {
        Some(errno) => {
            refuse(errno);
            -1
        }
        // SAFETY: the caller keeps to what the real function, which is one of this type, asks for.
        None => unsafe {
            mem::transmute::<usize, Setsockopt>(real(c"setsockopt", &REAL))(fd, level, option, value, length)
        },
    }
}

type Ioctl = unsafe extern "C" fn(c_int, libc::Ioctl, *mut c_void) -> c_int;

/// ioctl(2), with the one argument that all in use have: `TUNSETOFFLOAD` is refused unless it asks for nothing.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: libc::Ioctl, argument: *mut c_void) -> c_int {
    static REAL: OnceLock<usize> = OnceLock::new();
    match fault(TUN_OFFLOADS).filter(|_| request == libc::TUNSETOFFLOAD && !argument.is_null()) {
        Some(errno) => {
            refuse(errno);
            -1
        }
        // SAFETY: the caller keeps to what the real function, which takes its one argument as one of this type does, asks.
        None => unsafe { mem::transmute::<usize, Ioctl>(real(c"ioctl", &REAL))(fd, request, argument) },
    }
}

type Write = unsafe extern "C" fn(c_int, *const c_void, usize) -> isize;

/// write(2): a super-packet for a TUN, `virtio_net_hdr` first, is refused.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize {
    static REAL: OnceLock<usize> = OnceLock::new();
    let is_super = length > VNET && {
        // SAFETY: there are `length` bytes.
        let head = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), VNET + 1) };
        head[1] == GSO_TCPV4 && head[VNET] == 0x45
    };
    match fault(TUN_GSO).filter(|_| is_super) {
        Some(errno) => {
            refuse(errno);
            -1
        }
        // SAFETY: the caller's bytes; the real function has this type.
        None => unsafe { mem::transmute::<usize, Write>(real(c"write", &REAL))(fd, bytes, length) },
    }
}

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;

/// clock_gettime(2): the wall clock is off.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    static REAL: OnceLock<usize> = OnceLock::new();
    // SAFETY: the caller's place for the time, which the real function, one of this type, has filled if it returns zero.
    unsafe {
        let result = mem::transmute::<usize, ClockGettime>(real(c"clock_gettime", &REAL))(clock, time);
        if result == 0
            && clock == libc::CLOCK_REALTIME
            && let Some(hours) = fault(CLOCK)
        {
            // The byte is signed.
            (*time).tv_sec += libc::time_t::from(hours as i8) * 3600;
        }
        result
    }
}
