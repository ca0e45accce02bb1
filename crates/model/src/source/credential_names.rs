//! [`CredentialNames`]: which credentials a kind of secret source takes.

use crate::refusal::Refusal;

/// Credentials of a kind: those that it requires, and those that it also takes.
#[derive(Clone, Copy, Debug)]
pub struct CredentialNames {
    /// All of them must be given.
    pub required: &'static [&'static str],
    /// These may be given; `None`: any may.
    pub optional: Option<&'static [&'static str]>,
}

impl CredentialNames {
    /// Why credentials of these names are refused.
    pub fn refusal<'a>(&self, given: impl Iterator<Item = &'a str> + Clone) -> Option<Refusal> {
        let missing = self.required.iter().find(|name| !given.clone().any(|it| it == **name));
        if let Some(name) = missing {
            let rule = format!("must have `{name}`");
            let hint = format!("this kind takes {}", self.required.join(" and "));
            return Some(Refusal::new("credentials", rule).hint(hint));
        }
        let optional = self.optional?;
        let unknown = |name: &&str| !self.required.contains(name) && !optional.contains(name);
        let unknown = given.clone().find(unknown)?;
        let known = [self.required, optional].concat().join(", ");
        let rule = format!("must not have `{unknown}`");
        Some(Refusal::new("credentials", rule).hint(match known.is_empty() {
            true => "this kind takes none".to_owned(),
            false => format!("this kind takes {known}"),
        }))
    }
}
