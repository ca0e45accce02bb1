//! Random characters and checksums of tokens and placeholders, in base 62 or in hexadecimal digits.

use zeroize::Zeroizing;

const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const HEX_DIGITS: &[u8] = b"0123456789abcdef";

/// Fills `out` with random characters without bias.
///
/// # Panics
/// When the operating system has no randomness.
pub fn fill(out: &mut [u8]) {
    fill_with(DIGITS, out);
}

/// The same with hexadecimal digits.
///
/// # Panics
/// When the operating system has no randomness.
pub fn fill_hex(out: &mut [u8]) {
    fill_with(HEX_DIGITS, out);
}

/// Bytes of the largest multiple of the number of digits and more are drawn again: 248 (4 × 62).
fn fill_with(digits: &[u8], out: &mut [u8]) {
    let count = digits.len();
    let mut drawn: Zeroizing<[u8; 32]> = Zeroizing::new([0; 32]);
    let mut filled = 0;
    while filled < out.len() {
        getrandom::fill(drawn.as_mut_slice()).expect("the operating system has randomness");
        let usable =
            drawn.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < 256 / count * count);
        for (character, byte) in out[filled..].iter_mut().zip(usable) {
            *character = digits[byte % count];
            filled += 1;
        }
    }
}

/// CRC-32 (ISO-HDLC) in base 62: the `N` lowest digits, most significant first.
pub fn checksum<const N: usize>(text: &[u8]) -> [u8; N] {
    checksum_with(DIGITS, text)
}

/// The same in hexadecimal digits.
pub fn checksum_hex<const N: usize>(text: &[u8]) -> [u8; N] {
    checksum_with(HEX_DIGITS, text)
}

fn checksum_with<const N: usize>(digits: &[u8], text: &[u8]) -> [u8; N] {
    let mut rest = crc32fast::hash(text) as usize;
    let mut found = [0; N];
    for digit in found.iter_mut().rev() {
        *digit = digits[rest % digits.len()];
        rest /= digits.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32_in_base_62() {
        // CRC-32 of "123456789" is 0xCBF43926 = 3421780262 (the check value of the catalogue).
        let digits: [u8; 6] = checksum(b"123456789");
        let value = digits.iter().fold(0u64, |sum, digit| {
            sum * 62 + DIGITS.iter().position(|c| c == digit).unwrap() as u64
        });
        assert_eq!(value, 0xCBF4_3926);
        assert_eq!(checksum_hex(b"123456789"), *b"cbf43926");
    }
}
