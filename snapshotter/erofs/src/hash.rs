//! CRC32C for the superblock and a plain 128-bit fingerprint for the default volume UUID.
//! Neither is a cryptographic hash; nothing here decides whether two images are equal.

/// CRC32C (Castagnoli, reflected) as the kernel's `crc32c(seed, …)`: no inversion of the result.
/// Bit by bit, because it runs once over 3 KiB per image.
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1))
        })
    })
}

/// A UUID (RFC 9562 version 8, "custom") that depends on every byte of `image`.
///
/// Distinct images need distinct UUIDs: overlayfs gives up on stable inode numbers across
/// copy-up when two lowers have the same one.
pub(crate) fn fingerprint_uuid(image: &[u8]) -> [u8; 16] {
    // Two lanes of folded 64 x 64 -> 128 bit multiplication with different odd constants
    // (digits of pi); 8 bytes a step keep 12 MB at a few milliseconds.
    let mut low: u64 = 0x243F_6A88_85A3_08D3;
    let mut high: u64 = 0x1319_8A2E_0370_7344;
    let mut words = image.chunks_exact(8);
    for word in &mut words {
        let word = word
            .iter()
            .rev()
            .fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
        low = fold(low ^ word, 0xA409_3822_299F_31D1);
        high = fold(
            high.wrapping_add(word).rotate_left(29),
            0x082E_FA98_EC4E_6C89,
        );
    }
    for byte in words.remainder() {
        low = fold(low ^ u64::from(*byte), 0xA409_3822_299F_31D1);
    }
    let high = fold(high ^ low ^ image.len() as u64, 0x4528_21E6_38D0_1377);
    let value = (u128::from(high) << 64) | u128::from(low);
    let mut uuid = value.to_be_bytes();
    uuid[6] = (uuid[6] & 0x0F) | 0x80;
    uuid[8] = (uuid[8] & 0x3F) | 0x80;
    uuid
}

/// High and low half of the 128-bit product, combined; the sum keeps a zero factor from
/// swallowing the state.
fn fold(value: u64, constant: u64) -> u64 {
    let product = u128::from(value) * u128::from(constant);
    ((product >> 64) as u64 ^ product as u64).wrapping_add(constant)
}

#[cfg(test)]
mod tests {
    use super::{crc32c, fingerprint_uuid};

    #[test]
    fn crc32c_has_the_known_check_value() {
        // The standard check value is defined with a final inversion.
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn the_uuid_depends_on_every_byte() {
        let zeroes = vec![0u8; 4097];
        let base = fingerprint_uuid(&zeroes);
        for position in [0, 7, 8, 100, 4095, 4096] {
            let mut changed = zeroes.clone();
            changed[position] = 1;
            assert_ne!(fingerprint_uuid(&changed), base, "byte {position}");
        }
        assert_ne!(fingerprint_uuid(&zeroes[..4096]), base);
        assert_eq!(fingerprint_uuid(&zeroes), base);
    }
}
