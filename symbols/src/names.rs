//! From a symbol's name to what the function is.

use crate::tls::{Abi, Layout, Library, Moved, Role, Slot, When};

/// A name that means something here. `library` is `None` for the `SSL_*` names that OpenSSL and BoringSSL share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) library: Option<Library>,
    pub(crate) role: Role,
    pub(crate) layout: Layout,
}

const OUT_3: Moved = Moved::OutParam(Slot::Arg(3));
const OUT_4: Moved = Moved::OutParam(Slot::Arg(4));

const fn ssl(role: Role, moved: Moved, when: When) -> Option<Known> {
    Some(Known { library: None, role, layout: Layout::c3(moved, when) })
}

const fn of(library: Library, role: Role, moved: Moved, when: When) -> Option<Known> {
    Some(Known { library: Some(library), role, layout: Layout::c3(moved, when) })
}

/// The name without the prefix that Rust's `-sys` crates put before it.
fn without_crate_prefix(name: &[u8]) -> &[u8] {
    for prefix in [b"aws_lc_".as_slice(), b"ring_core_"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let rest = rest.strip_prefix(b"fips_").unwrap_or(rest);
            let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'_').unwrap_or(rest.len());
            return rest.get(end..).unwrap_or(b"");
        }
    }
    name
}

/// Cheap test before anything else: most symbols of a large table fail it.
pub(crate) fn may_be_known(name: &[u8]) -> bool {
    matches!(
        name.first_chunk::<3>(),
        Some(b"SSL" | b"ssl" | b"PR_" | b"gnu" | b"BIO" | b"aes" | b"cha" | b"aws" | b"rin")
    )
}

/// What the function of this name is; `None` for everything that is of no use.
pub(crate) fn known(full: &[u8]) -> Option<Known> {
    use When::{AtEntry, AtReturn};
    let name = without_crate_prefix(full);
    match name {
        b"SSL_read" => ssl(Role::Read, Moved::Return32, AtReturn),
        b"SSL_write" => ssl(Role::Write, Moved::Return32, AtEntry),
        b"SSL_read_ex" => ssl(Role::ReadEx, OUT_3, AtReturn),
        b"SSL_write_ex" | b"SSL_write_early_data" => ssl(Role::WriteEx, OUT_3, AtEntry),
        b"SSL_write_ex2" => ssl(Role::WriteEx2, OUT_4, AtEntry),
        b"SSL_peek" | b"SSL_peek_ex" => ssl(Role::Peek, Moved::Nothing, AtReturn),
        b"SSL_do_handshake" | b"SSL_connect" | b"SSL_accept" => ssl(Role::Handshake, Moved::Nothing, AtReturn),
        b"SSL_free" => ssl(Role::Free, Moved::Nothing, AtEntry),
        b"SSL_set_fd" | b"SSL_set_rfd" | b"SSL_set_wfd" => ssl(Role::SetFd, Moved::Nothing, AtEntry),
        b"BIO_write" => ssl(Role::BioWrite, Moved::Return32, AtEntry),
        b"ssl_read_internal" => of(Library::OpenSsl, Role::ReadInternal, OUT_3, AtReturn),
        b"ssl_write_internal" => of(Library::OpenSsl, Role::WriteInternal, OUT_3, AtEntry),
        b"gnutls_record_send" | b"gnutls_record_send2" => {
            of(Library::GnuTls, Role::GnutlsSend, Moved::Return64, AtEntry)
        }
        b"gnutls_record_recv" | b"gnutls_record_recv_seq" => {
            of(Library::GnuTls, Role::GnutlsRecv, Moved::Return64, AtReturn)
        }
        b"gnutls_handshake" => of(Library::GnuTls, Role::Handshake, Moved::Nothing, AtReturn),
        b"gnutls_deinit" => of(Library::GnuTls, Role::Free, Moved::Nothing, AtEntry),
        b"gnutls_transport_set_int2" => of(Library::GnuTls, Role::SetFd, Moved::Nothing, AtEntry),
        b"PR_Write" | b"PR_Send" => of(Library::Nss, Role::NsprWrite, Moved::Return32, AtEntry),
        b"PR_Read" | b"PR_Recv" => of(Library::Nss, Role::NsprRead, Moved::Return32, AtReturn),
        b"PR_Close" => of(Library::Nss, Role::Free, Moved::Nothing, AtEntry),
        b"SSL_ImportFD" => of(Library::Nss, Role::NssImportFd, Moved::Nothing, AtReturn),
        b"SSL_ForceHandshake" => of(Library::Nss, Role::Handshake, Moved::Nothing, AtReturn),
        _ => None,
    }
}

/// How many of the six argument registers a probe at this function needs, as a mask over argument indices.
pub(crate) fn arguments_needed(layout: &Layout) -> u8 {
    let mut mask = 0_u8;
    let slots = [Some(layout.object), Some(layout.buffer), Some(layout.length), layout.other, out(layout.moved)];
    for slot in slots.into_iter().flatten() {
        if let Slot::Arg(n @ 0..=7) = slot {
            mask |= 1 << n;
        }
    }
    mask
}

fn out(moved: Moved) -> Option<Slot> {
    match moved {
        Moved::OutParam(slot) => Some(slot),
        _ => None,
    }
}

/// The layout reads something from the stack at entry.
pub(crate) fn needs_stack(layout: &Layout) -> bool {
    let slots = [Some(layout.object), Some(layout.buffer), Some(layout.length), layout.other, out(layout.moved)];
    layout.abi == Abi::GoStack || slots.into_iter().flatten().any(|s| matches!(s, Slot::Stack(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_sys_crates_are_ignored() {
        assert_eq!(known(b"aws_lc_0_39_1_SSL_read").map(|k| k.role), Some(Role::Read));
        assert_eq!(known(b"aws_lc_fips_0_13_7_SSL_write").map(|k| k.role), Some(Role::Write));
        assert!(known(b"aws_lc_0_39_1_SSL_reads").is_none());
        assert!(known(b"aws_lc_").is_none());
    }

    #[test]
    fn out_parameters_are_among_the_needed_arguments() {
        let k = known(b"SSL_write_ex2").expect("known");
        assert_eq!(arguments_needed(&k.layout), 0b1_0111);
    }
}
