//! Whose account a connection uses, as far as that is known.

use super::records::ConnectionRecord;
use keyward_model::{Account, AccountSource};

impl ConnectionRecord {
    /// Whose account it is, as far as that is known: by a consent, or else by a test.
    pub fn known_account(&self) -> Option<Account> {
        match (&self.account, &self.account_id) {
            (Some(name), Some(id)) => Some(Account { name: name.clone(), id: id.clone() }),
            // Records of before identifiers were kept: the answer was the only source.
            (Some(name), None) => Some(Account::named(name, AccountSource::Answer)),
            (None, _) => {
                let whose = self.secret.whose.as_ref();
                whose.map(|whose| Account::named(whose, AccountSource::Test))
            }
        }
    }
}
