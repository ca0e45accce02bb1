//! What tests ask of a whole message.

use serde_json::Value;

use super::wire::Message;

impl Message {
    /// Itself, if it has this status.
    ///
    /// # Panics
    /// When it has another one.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.head.status(), status, "{}", self.text());
        self
    }

    /// Itself, if its text contains `words`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.text().contains(words), "{words}: {}", self.text());
        self
    }

    /// Its status, and Keyward's code.
    pub fn refusal(&self) -> (u16, Option<&str>) {
        (self.head.status(), self.head.one("keyward-error"))
    }

    /// Its JSON if it is 2xx; null where it has no body. `asked` is what it answers.
    ///
    /// # Panics
    /// When it is not 2xx.
    #[track_caller]
    pub fn done(self, asked: &str) -> Value {
        assert!((200..300).contains(&self.head.status()), "{asked}: {}", self.text());
        match self.body.is_empty() {
            true => Value::Null,
            false => self.json(),
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}
