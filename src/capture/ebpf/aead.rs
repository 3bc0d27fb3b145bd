//! Which AEAD functions below rustls are hooked: those that take a whole TLS record in one call.
//!
//! What a function leaves to others (ring's AES-GCM takes whole blocks, and `aesni_gcm_*` multiples of 96 bytes) is not
//! put together here: such functions are left out, and the image says so. `bpf/aead.bpf.c` is the other half.

use heron_symbols::{Abi, Backend, Confidence, Function, Library, Moved, Role, Tls, Unit};

use super::image::{Hook, Pair, argument};
use super::skel::types;

/// The functions of a library to hook, and why others are not.
#[derive(Default, Debug)]
pub(super) struct Choice {
    /// Seals and opens.
    pub hooks: Vec<Hook>,
    /// What is not seen of this library; `None` when it is seen whole, or is no rustls.
    pub left_out: Option<String>,
}

/// Chooses among the functions of rustls.
pub(super) fn hooks(library: &Tls) -> Choice {
    let Library::Rustls(backend) = library.library else {
        return Choice::default();
    };
    let hooks: Vec<Hook> = library.functions.iter().filter_map(hook).collect();
    let both = |name: &str| hooks.iter().filter(|hook| hook.name.contains(name)).count() >= 2;
    let aes = backend == Backend::AwsLc && both("avx512") && processor_has_avx512();
    let left_out =
        if aes { None } else { Some(format!("{}: AES-GCM of this processor is not seen", library.library.name())) };
    Choice { hooks, left_out }
}

/// What AWS-LC asks for before it uses its AVX-512 functions.
fn processor_has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        has!("avx512f")
            && has!("avx512bw")
            && has!("avx512dq")
            && has!("avx512vl")
            && has!("vaes")
            && has!("vpclmulqdq")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

fn takes_whole_records(name: &str) -> bool {
    matches!(
        name,
        "aes_gcm_encrypt_avx512" | "aes_gcm_decrypt_avx512" | "chacha20_poly1305_seal" | "chacha20_poly1305_open"
    )
}

fn hook(function: &Function) -> Option<Hook> {
    let role = match function.role {
        Role::AeadSeal => types::heron_role::HERON_ROLE_SEAL,
        Role::AeadOpen => types::heron_role::HERON_ROLE_OPEN,
        _ => return None,
    };
    let name = function.symbol.clone()?;
    let layout = &function.layout;
    // A place that only one method found is not probed: a wrong one would kill the process.
    if function.confidence == Confidence::Candidate || !takes_whole_records(&name) {
        return None;
    }
    if layout.abi != Abi::C || layout.length_unit != Unit::Byte || layout.moved != Moved::Length {
        return None;
    }
    // The kernel side reads 32 bytes of the key in any case: the key itself, or what is expanded from it first.
    let cookie = u64::from(role.0)
        | argument(layout.object)? << 8
        | argument(layout.buffer)? << 12
        | argument(layout.length)? << 16
        | argument(layout.other?)? << 20;
    let leaves = vec![function.return_site.as_ref()?.file_offset];
    Some(Hook { pair: Pair::Aead, entry: function.entry_site.file_offset, leaves, cookie, name })
}

#[cfg(test)]
mod tests {
    use super::takes_whole_records;

    #[test]
    fn functions_that_leave_a_tail_to_others_are_not_hooked() {
        assert!(takes_whole_records("aes_gcm_encrypt_avx512"));
        for part in ["aes_gcm_enc_update_vaes_avx2", "aesni_gcm_encrypt", "aes_hw_ctr32_encrypt_blocks"] {
            assert!(!takes_whole_records(part));
        }
    }
}
