//! The references of a push by git, which its refusal names.

use std::sync::Arc;

use super::Record;
use keyward_rules::git_push::PushedRefs;
use keyward_rules::policy::PolicyQuery;

impl Record {
    /// Sets the request, after its references were read.
    pub fn set_push(&mut self, query: Arc<PolicyQuery>) {
        self.fields.push = Some(query).filter(|query| query.push.is_some());
    }

    /// The references of a push, if they were read and understood.
    pub fn push(&self) -> Option<&PushedRefs> {
        self.fields.push.as_ref()?.push.as_ref()?.as_ref().ok()
    }
}
