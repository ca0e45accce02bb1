//! [`ConnectSettings`]: configuration of connect sessions and of the links in refusals.

use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use super::keys::section;

section! {
    /// How people connect accounts by a link.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct ConnectSettings {
        /// Whether a refusal that a person can resolve has a link, `connect_url`, to the page of the console where its
        /// owner signs in and connects the account.
        #[key(one of ["true", "false"], "true")]
        pub links_in_refusals: bool,
        /// Whether a refusal in a session of an end user has a link, `connect_url`, by which that end user connects the
        /// missing account without signing in: a connect session, which works once. The agent gets the link, and the person who
        /// opens it decides which account is connected: switch it on only where agents show links to their end user alone.
        #[key(one of ["true", "false"], "false")]
        pub links_for_end_users: bool,
        /// Origins to which a browser may return after a connect session, such as `https://app.example.com`. For
        /// localhost also with `http`.
        #[key("list of origins", "[]")]
        pub return_urls: Vec<String>,
        /// How the pages of connect sessions name the platform.
        #[key(map of Branding)]
        pub branding: Branding,
    }
}

section! {
    /// How pages for end users look.
    #[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Branding {
        /// The platform's name, up to 64 characters. Without it the pages say `Keyward`.
        #[key("text")]
        pub name: Option<String>,
        /// The colour of buttons and links.
        #[key("colour, such as `#3355ff`")]
        pub colour: Option<Colour>,
    }
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            links_in_refusals: true,
            links_for_end_users: false,
            return_urls: Vec::new(),
            branding: Branding::default(),
        }
    }
}

/// A colour: `#` and six hexadecimal digits. It is inserted into a style sheet, so any other text is refused.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Colour(String);

impl Colour {
    /// As in a style sheet.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether text on it is dark: the colour is light (relative luminance by ITU-R BT.709, without gamma).
    pub fn is_light(&self) -> bool {
        let part = |at: usize| u32::from_str_radix(&self.0[at..at + 2], 16).unwrap_or_default();
        2_126 * part(1) + 7_152 * part(3) + 722 * part(5) > 1_500_000
    }
}

impl<'de> Deserialize<'de> for Colour {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        match digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => {
                let expected = "`#` and six hexadecimal digits, such as `#3355ff`, in quotes";
                Err(D::Error::invalid_value(Unexpected::Str(&text), &expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_six_hex_digits_after_a_hash_sign_are_a_colour() {
        let colour = |text: &str| serde_json::from_value::<Colour>(text.into());
        for bad in ["", "#", "red", "#fff", "#12345g", "3355ff", "#3355ff;", "#1234567", "#é1234"]
        {
            assert!(colour(bad).is_err(), "{bad}");
        }
        assert_eq!(colour("#33AAff").unwrap().as_str(), "#33aaff");
        assert!(colour("#ffee00").unwrap().is_light() && !colour("#3355ff").unwrap().is_light());
    }
}
