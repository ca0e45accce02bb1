//! Refusals by a binding: requests beyond its actions, denied actions, and logins that it restricts.

use super::Reason;
use super::bindings::CompiledBinding;
use super::slots::{ActionList, Parts};
use keyward_base::id::RuleId;

impl CompiledBinding {
    /// Checks that it allows all requests, and answers its label. For logins, in which no request is seen.
    pub(super) fn for_login(&self) -> Result<RuleId, Reason> {
        let connection = || self.account.name.clone();
        if let Some(list) = &self.deny {
            return Err(self.denied(list));
        }
        let Some(Parts { allow, slots }) = self.parts.as_deref() else {
            return Ok(self.id.clone());
        };
        match (slots.iter().find(|slot| slot.is_unlimited()), slots.first(), allow) {
            (Some(slot), ..) => match &slot.blocked {
                Some(blocked) => Err(Reason::PluginBlocked(blocked.clone())),
                None => Ok(self.id.clone()),
            },
            (None, Some(slot), _) => {
                Err(Reason::BeyondSlot { slot: slot.clone(), connection: connection() })
            }
            (None, None, Some(list)) => Err(self.beyond(list)),
            (None, None, None) => Err(Reason::ConnectionMissing { name: connection() }),
        }
    }

    /// The refusal of an action that it denies.
    pub(super) fn denied(&self, list: &ActionList) -> Reason {
        let (connection, lost) = (self.account.name.clone(), list.lost.clone());
        Reason::DeniedAction { connection, denied: list.text(), lost }
    }

    /// The refusal of a request that belongs to none of its actions.
    pub(super) fn beyond(&self, list: &ActionList) -> Reason {
        Reason::BeyondActions { connection: self.account.name.clone(), allowed: list.text() }
    }
}
