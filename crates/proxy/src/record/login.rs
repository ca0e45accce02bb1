//! Records of SSH logins: one for each signature, made or refused.

use http::Method;

use super::{EventFields, Record, text_of};
use keyward_base::host::Target;
use keyward_rules::policy::SshPermit;
use keyward_state::observe::event::Outcome;

/// Characters of an account that a record keeps: it is the client's text.
const CHARS_MAX: usize = 64;

impl Record {
    /// An SSH login that is to be signed: its server, if that is known, and the account.
    pub fn set_login(&mut self, server: Option<&Target>, user: &str) {
        let shown =
            |c: char| if c.is_ascii_alphanumeric() || "-._@+".contains(c) { c } else { '?' };
        self.fields.method = Method::from_bytes(b"SIGN").ok();
        self.fields.target = server.cloned();
        self.fields.login = Some(user.chars().take(CHARS_MAX).map(shown).collect());
    }

    /// The permit of an SSH login.
    pub fn set_ssh_permit(&mut self, permit: &SshPermit) {
        self.fields.rule = Some(permit.rule().clone());
        self.fields.connection = Some(permit.wanted().name.clone());
        self.fields.connection_id = Some(permit.wanted().connection.clone());
    }

    /// An SSH login was signed.
    pub fn set_login_signed(&mut self) {
        self.set_opened();
        self.set_outcome(Outcome::Completed);
    }
}

impl EventFields {
    /// The target, with the account of an SSH login; the URL of a database.
    pub(super) fn target_text(&self) -> Option<String> {
        if let Some(session) = &self.database {
            return session.url();
        }
        match (&self.target, &self.login) {
            (Some(target), Some(user)) => {
                Some(format!("ssh://{user}@{}:{}", target.host(), target.port()))
            }
            (None, Some(user)) if !user.is_empty() => Some(format!("ssh://{user}@")),
            (target, _) => target.as_ref().map(text_of),
        }
    }
}
