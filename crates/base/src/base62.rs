//! Base 62, of tokens and placeholders: random characters and checksums.

use zeroize::Zeroizing;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Fills `out` with random characters without bias: bytes of 248 (4 × 62) and more are drawn again.
///
/// # Panics
/// When the operating system has no randomness.
pub fn fill(out: &mut [u8]) {
    let mut drawn: Zeroizing<[u8; 32]> = Zeroizing::new([0; 32]);
    let mut filled = 0;
    while filled < out.len() {
        getrandom::fill(drawn.as_mut_slice()).expect("the operating system has randomness");
        let usable = drawn.iter().filter(|byte| **byte < 248);
        for (character, byte) in out[filled..].iter_mut().zip(usable) {
            *character = DIGITS[usize::from(byte % 62)];
            filled += 1;
        }
    }
}

/// CRC-32 (ISO-HDLC) in base 62: the `N` lowest digits, most significant first.
pub fn checksum<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [0; N];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits
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
    }
}
