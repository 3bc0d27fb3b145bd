//! Places probes, by file descriptor: one kernel link of many offsets, or on older kernels a perf event for each.
//!
//! Works on descriptors only, so that hooks can be set from another thread than the one that owns the skeleton. A link
//! ends with its descriptor: nothing is pinned, and nothing outlives heron.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{
    self, bpf_link_create_opts, bpf_link_create_opts__bindgen_ty_1__bindgen_ty_3 as UprobeMulti,
};

/// A place in a file and what the program is told about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Offset in the file; always an instruction boundary.
    pub offset: u64,
    /// The program's cookie (`bpf/abi.h`).
    pub cookie: u64,
}

/// When the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// At the place.
    Entry,
    /// When the function that begins at the place returns.
    Return,
}

/// How programs are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// One link of many probes (6.6).
    Multi,
    /// A perf event and a link for each probe.
    Perf {
        /// The event's type: the number of the kernel's uprobe unit.
        unit: u32,
        /// The bit of the event's configuration that asks for the return.
        at_return: u64,
    },
}

const UPROBE_UNIT: &str = "/sys/bus/event_source/devices/uprobe";

impl Backend {
    /// Asks the kernel how its uprobe unit is spoken to.
    pub fn perf() -> io::Result<Backend> {
        let unit = number(&format!("{UPROBE_UNIT}/type"), "")?;
        let bit = number(&format!("{UPROBE_UNIT}/format/retprobe"), "config:")?;
        Ok(Backend::Perf { unit, at_return: 1u64.checked_shl(bit).unwrap_or(1) })
    }

    /// Sets probes at `places` of the open `file`. `pid` limits them to one process; `None` means everybody who maps the file.
    pub fn uprobes(
        self,
        program: BorrowedFd<'_>,
        file: BorrowedFd<'_>,
        places: &[Place],
        moment: Moment,
        pid: Option<u32>,
    ) -> io::Result<Vec<OwnedFd>> {
        match self {
            Backend::Multi => uprobe_multi(program, file, places, moment, pid).map(|link| vec![link]),
            Backend::Perf { unit, at_return } => {
                let config = if moment == Moment::Return { at_return } else { 0 };
                let mut links = Vec::new();
                for place in places {
                    links.extend(perf_uprobe(program, file, *place, (unit, config), pid)?);
                }
                Ok(links)
            }
        }
    }
}

fn number(path: &str, prefix: &str) -> io::Result<u32> {
    let text = std::fs::read_to_string(path)?;
    let digits = text.trim().strip_prefix(prefix).and_then(|digits| digits.parse().ok());
    digits.ok_or_else(|| io::Error::other(format!("{path} says {text:?}")))
}

/// A perf event at one place, and the link that has it run the program. Both end with their descriptors.
fn perf_uprobe(
    program: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    place: Place,
    (unit, config): (u32, u64),
    pid: Option<u32>,
) -> io::Result<[OwnedFd; 2]> {
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut attributes = libbpf_sys::perf_event_attr {
        type_: unit,
        size: u32::try_from(size_of::<libbpf_sys::perf_event_attr>()).unwrap_or(0),
        config,
        ..Default::default()
    };
    attributes.__bindgen_anon_3.config1 = path.as_ptr() as u64;
    attributes.__bindgen_anon_4.config2 = place.offset;
    let target = pid.and_then(|pid| libc::pid_t::try_from(pid).ok()).unwrap_or(-1);
    let processor = if pid.is_some() { -1 } else { 0 };
    // SAFETY: the attributes and the path that they point to outlive the call, which only reads them.
    let event = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, target, processor, -1, PERF_FLAG_FD_CLOEXEC)
    };
    let event = libc::c_int::try_from(event).ok().filter(|event| *event >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    let mut options = bpf_link_create_opts { sz: size_of::<bpf_link_create_opts>() as u64, ..Default::default() };
    options.__bindgen_anon_1.perf_event.bpf_cookie = place.cookie;
    // SAFETY: both descriptors are open, and the options hold no pointers.
    let link = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), event.as_raw_fd(), libbpf_sys::BPF_PERF_EVENT, &options)
    };
    if link < 0 {
        return Err(io::Error::from_raw_os_error(-link));
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    // SAFETY: takes a number and no pointer.
    if unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok([link, event])
}

/// From `linux/perf_event.h`.
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
/// `_IO('$', 0)`.
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;

/// One link for all places.
fn uprobe_multi(
    program: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    places: &[Place],
    moment: Moment,
    pid: Option<u32>,
) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let offsets: Vec<libc::c_ulong> = places.iter().map(|place| place.offset).collect();
    let cookies: Vec<u64> = places.iter().map(|place| place.cookie).collect();
    let mut options = bpf_link_create_opts { sz: size_of::<bpf_link_create_opts>() as u64, ..Default::default() };
    options.__bindgen_anon_1.uprobe_multi = UprobeMulti {
        path: path.as_ptr(),
        offsets: offsets.as_ptr(),
        cookies: cookies.as_ptr(),
        cnt: u32::try_from(places.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        flags: if moment == Moment::Return { libbpf_sys::BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        pid: pid.unwrap_or(0),
        ..Default::default()
    };
    // SAFETY: `path`, `offsets` and `cookies` outlive the call and hold `cnt` elements; the options are zeroed otherwise.
    let fd =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_UPROBE_MULTI, &options) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
