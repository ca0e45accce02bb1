//! What a plugin will reach, before a person agrees to it and whenever it is shown.

use crate::cli::table::fields;
use keyward_model::{SlotConnectionView, SlotView};
use keyward_rules::provider::scope_words::worded_scopes;

/// Slots, one paragraph each: lists of hosts and paths are too long for the columns of a table.
pub(super) fn text(slots: &[SlotView]) -> String {
    if slots.is_empty() {
        return "no slots\n".to_owned();
    }
    let mut text = String::new();
    for slot in slots {
        text += &match &slot.connection {
            Some(connection) => filled(slot, connection),
            None if slot.required => format!("{}: empty\n", slot.slot),
            None => format!("{}: empty, optional\n", slot.slot),
        };
    }
    for slot in slots {
        let Some(connection) = &slot.connection else { continue };
        let name = &connection.name;
        if connection.unlimited
            && !(slot.methods.is_empty() && slot.paths.is_empty() && slot.allow.is_empty())
        {
            text += &format!(
                "note: the agent may use {name} without the plugin as well: the limits of slot {} apply\n\
                 only after: keyward agent unbind AGENT {name}\n",
                slot.slot
            );
        }
        if !connection.scopes_missing.is_empty() {
            let remedy = connection.remedy.as_deref();
            text += &format!(
                "note: {name} was not granted {}: {}\n",
                worded_scopes(&connection.scopes_missing, &slot.scope_words),
                remedy.unwrap_or("`keyward plugin reconnect` requests it")
            );
        }
    }
    text
}

/// `repo: work (octocat)`, and what the slot allows.
fn filled(slot: &SlotView, connection: &SlotConnectionView) -> String {
    let account = connection.account.as_ref().map(|account| format!(" ({account})"));
    let allowed = |texts: &[String]| match texts {
        [] => "all".to_owned(),
        _ if connection.unlimited => "all".to_owned(),
        texts => texts.join(", "),
    };
    let actions = if connection.unlimited { String::new() } else { slot.allow.join(", ") };
    let rows = fields(&[
        ("  hosts", connection.hosts.join(", ")),
        ("  methods", allowed(&slot.methods)),
        ("  paths", allowed(&slot.paths)),
        ("  actions", actions),
        ("  own authorization", slot.own_authorization.text().to_owned()),
        ("  scopes", worded_scopes(&slot.scopes, &slot.scope_words)),
    ]);
    format!("{}: {}{}\n{rows}", slot.slot, connection.name, account.unwrap_or_default())
}
