//! Whether the actions and slots of a binding allow a request.

use super::decide::Evaluation;
use super::matching::{in_scopes, matches_paths, unclear};
use super::rule::AccountState;
use super::slots::{ActionList, Parts, Slot};
use super::{CompiledBinding, Reason};
use crate::actions::ScopeShare;
use crate::inject::own_authorization::OwnAuthorization;
use keyward_base::id::RuleId;

impl Evaluation<'_> {
    /// Whether the binding's actions and slots allow the request, and what those that do say of an authorization of its
    /// own.
    pub(super) fn is_within(&self, binding: &CompiledBinding) -> Result<OwnAuthorization, Reason> {
        if let Some(list) = &binding.deny
            && (list.lost.is_some() || self.is_in(list, ScopeShare::Any, &binding.id)?)
        {
            return Err(binding.denied(list));
        }
        let Some(Parts { allow, slots }) = binding.parts.as_deref() else {
            return Ok(binding.own_authorization);
        };
        let (mut blocked, mut unclear) = (None, None);
        match allow.as_ref().map(|list| self.is_in(list, ScopeShare::All, &binding.id)) {
            Some(Ok(true)) => return Ok(binding.own_authorization),
            Some(Err(reason)) => unclear = Some(reason),
            Some(Ok(false)) | None => {}
        }
        for slot in slots {
            match self.is_in_slot(slot, &binding.id) {
                Ok(false) => {}
                Err(reason) => unclear = Some(reason),
                // If the account itself is not usable, that is the reason to report.
                Ok(true) if binding.account.state != AccountState::Active => {
                    return Ok(slot.own_authorization);
                }
                Ok(true) => match &slot.blocked {
                    None => return Ok(slot.own_authorization),
                    Some(why) => blocked = blocked.or(Some(why)),
                },
            }
        }
        Err(match (unclear, blocked, allow, slots.first()) {
            (Some(reason), ..) => reason,
            (_, Some(why), ..) => Reason::PluginBlocked(why.clone()),
            (_, _, Some(list), _) => binding.beyond(list),
            (.., Some(slot)) => {
                let connection = binding.account.name.clone();
                Reason::BeyondSlot { slot: slot.clone(), connection }
            }
            (None, None, None, None) => Reason::DefaultDeny { others: true, way: Box::default() },
        })
    }

    /// Whether the slot allows the request.
    fn is_in_slot(&self, slot: &Slot, binding: &RuleId) -> Result<bool, Reason> {
        if !slot.matches_method(self.asked.method)
            || !matches_paths(self.path, &slot.paths, ScopeShare::All, binding)?
        {
            return Ok(false);
        }
        slot.allow.as_ref().map_or(Ok(true), |list| self.is_in(list, ScopeShare::All, binding))
    }

    /// Whether the request belongs to the actions. `binding` is named if servers may read it in two ways.
    fn is_in(
        &self,
        list: &ActionList,
        share: ScopeShare,
        binding: &RuleId,
    ) -> Result<bool, Reason> {
        in_scopes(&list.scopes, &self.asked, self.path, share).map_err(|why| unclear(why, binding))
    }
}
