//! Places probes: one kernel link of many offsets, by file descriptor.
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

/// Sets probes at `places` of the open `file`. `pid` limits them to one process; `None` means everybody who maps the file.
pub fn uprobes(
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
