//! What a plugin will reach, before a person agrees to it and whenever it is shown.

use crate::cli::table::Table;
use keyward_model::SlotView;

/// Slots, and what may be done with what is in them.
pub(super) fn table(slots: &[SlotView], colours: bool) -> String {
    let mut table =
        Table::new(["SLOT", "CONNECTION", "ACCOUNT", "HOSTS", "METHODS", "PATHS", "SCOPES"]);
    let or_all = |texts: &[String]| match texts {
        [] => "all".to_owned(),
        texts => texts.join(", "),
    };
    for slot in slots {
        let Some(connection) = &slot.connection else {
            let none = if slot.required { "(empty)" } else { "(empty, optional)" };
            let mut cells: [String; 7] = Default::default();
            cells[0].clone_from(&slot.slot);
            none.clone_into(&mut cells[1]);
            table.row(cells);
            continue;
        };
        let (methods, paths) = match connection.unlimited {
            true => ("all".to_owned(), "all".to_owned()),
            false => (or_all(&slot.methods), or_all(&slot.paths)),
        };
        table.row([
            slot.slot.clone(),
            connection.name.clone(),
            connection.account.clone().unwrap_or_default(),
            connection.hosts.join(", "),
            methods,
            paths,
            slot.scopes.join(", "),
        ]);
    }
    let mut text = table.render("no slots", colours);
    for slot in slots {
        let Some(connection) = &slot.connection else { continue };
        let name = &connection.name;
        if connection.unlimited && !(slot.methods.is_empty() && slot.paths.is_empty()) {
            text += &format!(
                "note: the agent may use {name} without the plugin as well: what slot {} is limited \
                 to holds only\nonce it is unbound: keyward agent unbind AGENT {name}\n",
                slot.slot
            );
        }
        if !connection.scopes_missing.is_empty() {
            let remedy = connection.remedy.as_deref();
            text += &format!(
                "note: {name} was not granted {}: {}\n",
                connection.scopes_missing.join(", "),
                remedy.unwrap_or("`keyward plugin reconnect` asks for it")
            );
        }
    }
    text
}
