//! Hand-written AEAD assembly of ring, AWS-LC, BoringSSL and OpenSSL.
//!
//! Provenance: the perlasm output that the crates ship, assembled, first bytes of each global function, with
//! relocations and most branch displacements wildcarded and a leading `endbr64` dropped (builds differ in it):
//!
//! - ring 0.17.14 and 0.16.20, `pregenerated/{aesni-gcm,aesni,aes-gcm-avx2,ghash,chacha20_poly1305}*x86_64-elf.S`,
//!   `pregenerated/{aesv8-gcm-armv8,aesv8-armx,chacha20_poly1305_armv8}-linux64.S` (Apache-2.0 AND ISC);
//! - aws-lc-sys 0.20.1, 0.30.0, 0.39.1, 0.47.0 and aws-lc-fips-sys 0.13.7, `generated-src/linux-{x86_64,aarch64}/crypto/`
//!   `{fipsmodule/aesni-gcm-avx512,fipsmodule/aesni-gcm-x86_64,fipsmodule/aesni-x86_64,fipsmodule/ghash-x86_64,cipher_extra/chacha20_poly1305*,`
//!   `fipsmodule/aesv8-*}.S` (Apache-2.0 OR ISC); the bytes are the same in all five but for `endbr64`.
//!
//! Seen in Codex 0.99.0 to 0.171.0, Deno 2.2.0 (ring) and 2.9.6 (aws-lc).

use crate::tls::{Abi, Arch, Backend, Identity, Layout, Moved, Role, Slot, Unit, When};

/// One function's signature.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) arch: Arch,
    pub(crate) role: Role,
    /// Whose it is, where the bytes say so.
    pub(crate) backend: Option<Backend>,
    /// The bytes at the start, after an `endbr64` or `bti`.
    pub(crate) bytes: &'static str,
    /// More bytes further on: their offset, and the bytes.
    pub(crate) also: Option<(usize, &'static str)>,
    /// Encryption and decryption begin alike, and the assembly has encryption first: the first hit of a pair has
    /// this role, the second is this signature.
    pub(crate) second: Option<(&'static str, Role)>,
    pub(crate) layout: Layout,
}

const fn layout(key: u8, input: u8, output: u8, length: u8, unit: Unit, role: Role) -> Layout {
    let (buffer, other, when) = match role {
        Role::AeadOpen => (output, input, When::AtReturn),
        _ => (input, output, When::AtEntry),
    };
    Layout {
        abi: Abi::C,
        object: Slot::Arg(key),
        identity: Identity::Pointer,
        buffer: Slot::Arg(buffer),
        length: Slot::Arg(length),
        length_unit: unit,
        moved: Moved::Length,
        when,
        other: Some(Slot::Arg(other)),
    }
}

/// `f(in, out, len, key, ...)`.
const fn in_out(unit: Unit, role: Role) -> Layout {
    layout(3, 0, 1, 2, unit, role)
}

/// `f(in, out, len, key, ...)` that returns how many bytes it did; the rest is done by counter mode.
const fn in_out_part(role: Role) -> Layout {
    Layout { moved: Moved::Return64, ..in_out(Unit::Byte, role) }
}

/// `f(key, context, partial, in, len, out)`.
const fn whole(role: Role) -> Layout {
    layout(0, 3, 5, 4, Unit::Byte, role)
}

/// `f(out, in, len, ad, ad_len, data)` where `data` begins with the 32 bytes of the key.
const fn chacha(role: Role) -> Layout {
    Layout { identity: Identity::Bytes(32), ..layout(5, 1, 0, 2, Unit::Byte, role) }
}

/// `f(in, bits, out, xi, ivec, key, htable)`.
const fn kernel(role: Role) -> Layout {
    layout(5, 0, 2, 1, Unit::Bit, role)
}

const fn x86(name: &'static str, role: Role, bytes: &'static str, layout: Layout) -> Signature {
    Signature { name, arch: Arch::X86_64, role, backend: None, bytes, also: None, second: None, layout }
}

const fn arm(name: &'static str, role: Role, bytes: &'static str, layout: Layout) -> Signature {
    Signature { name, arch: Arch::Aarch64, role, backend: None, bytes, also: None, second: None, layout }
}

const AVX512: &str = "53 55 41 54 41 55 41 56 41 57 48 8d 2c 24 48 81 ec 34 06 00 00 48 83 e4 c0 8b 87 f0 00 00 00 \
                      83 f8 09 74 38 83 f8 0b 0f 84 ?? ?? ?? ?? 83 f8 0d 0f 84 ?? ?? ?? ?? 31 c0 e9";
const CHACHA: &str = "55 53 41 54 41 55 41 56 41 57 41 51 48 81 ec 40 01 00 00 48 8d 6c 24 20 48 83 e5 e0";

/// All of them.
pub(crate) const SIGNATURES: &[Signature] = &[
    Signature {
        backend: Some(Backend::AwsLc),
        // The counter block is byte-swapped at once; OpenSSL's does that later.
        also: Some((0x5c, "4d 09 c0 0f 84 ?? ?? ?? ?? 4d 31 f6 62 71 fe 08 6f 76 04 c4 62 09 00 35")),
        second: Some(("aes_gcm_decrypt_avx512", Role::AeadOpen)),
        ..x86("aes_gcm_encrypt_avx512", Role::AeadSeal, AVX512, whole(Role::AeadSeal))
    },
    Signature {
        backend: Some(Backend::OpenSsl),
        also: Some((0x5c, "4d 09 c0 0f 84 ?? ?? ?? ?? 4d 31 f6 62 71 fe 08 6f 76 04 4c 8b 1a")),
        second: Some(("ossl_aes_gcm_decrypt_avx512", Role::AeadOpen)),
        ..x86("ossl_aes_gcm_encrypt_avx512", Role::AeadSeal, AVX512, whole(Role::AeadSeal))
    },
    Signature {
        backend: Some(Backend::Ring),
        second: Some(("aes_gcm_dec_update_vaes_avx2", Role::AeadOpen)),
        ..x86(
            "aes_gcm_enc_update_vaes_avx2",
            Role::AeadSeal,
            "41 54 4c 8b 64 24 10 c4 e2 7d 5a 05 ?? ?? ?? ?? c4 c1 7a 6f 0c 24 c4 e2 71 00 c8 c4 42 7d 5a 18 c4 62 25 00 d8 \
             44 8b 91 f0 00 00 00",
            in_out(Unit::Byte, Role::AeadSeal),
        )
    },
    x86(
        "aesni_gcm_encrypt",
        Role::AeadSeal,
        "48 31 c0 48 81 fa 20 01 00 00 0f 82 ?? ?? 00 00 55 48 89 e5 53 41 54 41 55 41 56 41 57 c5 f8 77",
        in_out_part(Role::AeadSeal),
    ),
    x86(
        "aesni_gcm_decrypt",
        Role::AeadOpen,
        "48 31 c0 48 83 fa 60 0f 82 ?? ?? 00 00 55 48 89 e5 53 41 54 41 55 41 56 41 57 c5 f8 77",
        in_out_part(Role::AeadOpen),
    ),
    Signature {
        backend: Some(Backend::OpenSsl),
        ..x86(
            "aesni_gcm_encrypt",
            Role::AeadSeal,
            "4d 31 d2 48 81 fa 20 01 00 00 0f 82 ?? ?? 00 00 48 8d 04 24 53 55 41 54 41 55 41 56 41 57 c5 f8 77",
            in_out_part(Role::AeadSeal),
        )
    },
    Signature {
        backend: Some(Backend::OpenSsl),
        ..x86(
            "aesni_gcm_decrypt",
            Role::AeadOpen,
            "4d 31 d2 48 83 fa 60 0f 82 ?? ?? 00 00 48 8d 04 24 53 55 41 54 41 55 41 56 41 57 c5 f8 77",
            in_out_part(Role::AeadOpen),
        )
    },
    x86(
        "aes_hw_ctr32_encrypt_blocks",
        Role::AeadCounter,
        "48 83 fa 01 75 ?? 41 0f 10 10 0f 10 1f 8b 91 f0 00 00 00 0f 10 01 0f 10 49 10 48 8d 49 20",
        in_out(Unit::AesBlock, Role::AeadCounter),
    ),
    x86(
        "aes_hw_ctr32_encrypt_blocks",
        Role::AeadCounter,
        "48 83 fa 01 0f 82 ?? ?? 00 00 75 ?? 41 0f 10 10 0f 10 1f 8b 91 f0 00 00 00 0f 10 01 0f 10 49 10",
        in_out(Unit::AesBlock, Role::AeadCounter),
    ),
    // Both names of it: `gcm_gmult_avx` jumps to behind the landing pad.
    x86(
        "gcm_gmult_clmul",
        Role::AeadDigest,
        "f3 0f 6f 07 66 0f 6f 2d ?? ?? ?? ?? f3 0f 6f 16 f3 0f 6f 66 20 66 0f 38 00 c5 66 0f 6f c8 66 0f 70 d8 4e 66 0f ef d8",
        Layout { moved: Moved::Nothing, other: None, ..in_out(Unit::Byte, Role::AeadDigest) },
    ),
    // Sealing adds the length of the extra input, which only it has, to the length.
    Signature {
        also: Some((28, "49 8b 59 38 48 01 d3 4c 89 45 20 48 89 5d 28 48 89 d3")),
        ..x86("chacha20_poly1305_seal", Role::AeadSeal, CHACHA, chacha(Role::AeadSeal))
    },
    Signature {
        also: Some((28, "48 89 d3 4c 89 45 20 48 89 5d 28")),
        ..x86("chacha20_poly1305_open", Role::AeadOpen, CHACHA, chacha(Role::AeadOpen))
    },
    arm(
        "aes_gcm_enc_kernel",
        Role::AeadSeal,
        "fd 7b b8 a9 fd 03 00 91 f3 53 01 a9 f0 03 04 aa e8 03 05 aa f5 5b 02 a9 f7 63 03 a9 e8 27 04 6d ea 2f 05 6d \
         ec 37 06 6d ee 3f 07 6d 11 f1 40 b9 13 11 11 8b 6d 3a 40 a9 7f 02 df 3c 04 0c 41 8b",
        kernel(Role::AeadSeal),
    ),
    arm(
        "aes_gcm_dec_kernel",
        Role::AeadOpen,
        "fd 7b b8 a9 fd 03 00 91 f3 53 01 a9 f0 03 04 aa e8 03 05 aa f5 5b 02 a9 f7 63 03 a9 e8 27 04 6d ea 2f 05 6d \
         ec 37 06 6d ee 3f 07 6d 11 f1 40 b9 13 11 11 8b 6d 3a 40 a9 7f 02 df 3c 25 fc 43 d3",
        kernel(Role::AeadOpen),
    ),
    Signature {
        backend: Some(Backend::AwsLc),
        ..arm(
            "aesv8_gcm_8x_enc_128",
            Role::AeadSeal,
            "a1 76 00 b4 e8 27 bb 6d 29 fc 43 d3 f0 03 04 aa eb 03 05 aa ea 2f 01 6d ec 37 02 6d ee 3f 03 6d 05 40 f8 d2 e5 7f 04 a9 ea 03 01 91 2f 00 c0 d2 1f e4 00 4f",
            kernel(Role::AeadSeal),
        )
    },
    Signature {
        backend: Some(Backend::AwsLc),
        ..arm(
            "aesv8_gcm_8x_dec_128",
            Role::AeadOpen,
            "c1 76 00 b4 e8 27 bb 6d 29 fc 43 d3 f0 03 04 aa eb 03 05 aa ea 2f 01 6d ec 37 02 6d ee 3f 03 6d 05 40 f8 d2 e5 7f 04 a9 ea 03 01 91 e5 03 09 aa 00 72 40 4c",
            kernel(Role::AeadOpen),
        )
    },
    Signature {
        backend: Some(Backend::AwsLc),
        ..arm(
            "aesv8_gcm_8x_enc_256",
            Role::AeadSeal,
            "61 8f 00 b4 e8 27 bb 6d 29 fc 43 d3 f0 03 04 aa eb 03 05 aa ea 2f 01 6d ec 37 02 6d ee 3f 03 6d 05 40 f8 d2 e5 7f 04 a9 ea 03 01 91 00 72 40 4c e5 03 09 aa",
            kernel(Role::AeadSeal),
        )
    },
    Signature {
        backend: Some(Backend::AwsLc),
        ..arm(
            "aesv8_gcm_8x_dec_256",
            Role::AeadOpen,
            "c1 8f 00 b4 e8 27 bb 6d 29 fc 43 d3 f0 03 04 aa eb 03 05 aa ea 2f 01 6d ec 37 02 6d ee 3f 03 6d 05 40 f8 d2 e5 7f 04 a9 ea 03 01 91 00 72 40 4c 2f 00 c0 d2",
            kernel(Role::AeadOpen),
        )
    },
    arm(
        "aes_hw_ctr32_encrypt_blocks",
        Role::AeadCounter,
        "fd 7b bf a9 fd 03 00 91 65 f0 40 b9 88 0c 40 b9 80 78 40 4c 70 a8 40 4c a5 10 00 51 0c 02 80 d2 5f 08 00 f1 \
         67 10 05 8b a5 08 00 51",
        in_out(Unit::AesBlock, Role::AeadCounter),
    ),
    arm(
        "chacha20_poly1305_seal",
        Role::AeadSeal,
        "fd 7b bb a9 fd 03 00 91 e8 27 01 6d ea 2f 02 6d ec 37 03 6d ee 3f 04 6d ?? ?? ?? ?? ?? ?? ?? ?? 78 21 40 4c \
         bc 60 40 4c 2f 00 80 d2 08 00 80 d2 09 00 80 d2 0a 00 80 d2 ac 1c 40 f9",
        chacha(Role::AeadSeal),
    ),
    arm(
        "chacha20_poly1305_open",
        Role::AeadOpen,
        "fd 7b bb a9 fd 03 00 91 e8 27 01 6d ea 2f 02 6d ec 37 03 6d ee 3f 04 6d ?? ?? ?? ?? ?? ?? ?? ?? 78 21 40 4c \
         bc 60 40 4c 2f 00 80 d2 08 00 80 d2 09 00 80 d2 0a 00 80 d2 9f 1c 08 4e",
        chacha(Role::AeadOpen),
    ),
];
