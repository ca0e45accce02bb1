//! [`is_common_word`]: whether a secret is an ordinary word of answers, which masking then changes.

use keyward_base::secret::Secret;

use super::forms::SECRET_BYTES_MIN;

/// Words that are not lower-case letters alone, in lower case, one on each line.
const LISTED: &str = include_str!("common_words.txt");

/// Longer words in lower case are several, and rare in answers.
const LETTERS_MAX: usize = 16;

/// Whether answers may have the text by chance: a listed word in any case, or a short one of lower-case letters. A secret
/// that is too short to be masked changes no answer.
pub fn is_common_word(secret: &Secret) -> bool {
    let Some(text) = secret.expose_text() else { return false };
    let is_plain = text.len() <= LETTERS_MAX && text.bytes().all(|byte| byte.is_ascii_lowercase());
    text.len() >= SECRET_BYTES_MIN
        && (is_plain || LISTED.lines().any(|word| word.eq_ignore_ascii_case(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_secrets_and_those_too_short_to_be_masked_are_no_common_words() {
        let is_word = |text: &str| is_common_word(&Secret::from(text.to_owned()));
        for other in ["secret", "sk_live_abcdefgh", "qzvkxwjhgplmnbtyc", "Tr0ub4dor&3", "a1b2c3d4"]
        {
            assert!(!is_word(other), "{other}");
        }
        for word in ["password", "Password", "PASSWORD1", "localhost", "internal", "12345678"] {
            assert!(is_word(word), "{word}");
        }
        assert!(LISTED.lines().all(|word| word == word.to_lowercase() && word.len() >= 8));
    }
}
