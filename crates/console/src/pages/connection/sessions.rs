//! The database of a connection on its page: what its sessions may do, with the fields that change it, and the open
//! listeners at which programs reach it.

use std::collections::BTreeSet;
use std::fmt::Display;

use maud::{Markup, html};

use crate::parts::{Check, Field};
use crate::visit::{PageError, Visit};
use keyward_api::wire::{DatabaseListenerView, Status};
use keyward_base::database::DatabaseProtocol;
use keyward_base::settings::Settings;
use keyward_model::{Connection, Shown};

/// What sessions may do.
pub(super) fn rights(settings: &Settings) -> Markup {
    let Settings { read_only, statement_timeout, rows_max, bytes_max, .. } = settings;
    html! {
        @if *read_only == Some(true) { "are read-only" } @else { "may write" }
        @if let Some(timeout) = statement_timeout { ", statements take " (timeout) " at most" }
        @if let Some(kinds) = &settings.statements { ", send only " (joined(kinds, ", ")) }
        @if let Some(tables) = &settings.tables { ", name only the tables " (joined(tables, ", ")) }
        @if let Some(names) = &settings.functions { ", call only the server's own functions and " (joined(names, ", ")) }
        @if let Some(role) = &settings.role { ", begin as role " (role) }
        @if let Some(rows) = rows_max { ", get " (rows) " rows at most" }
        @if let Some(bytes) = bytes_max { ", get " (bytes) " bytes at most" }
        @if settings.audit_statements == Some(true) { ", statements are recorded" }
    }
}

/// The fields of a form for them.
pub(super) fn fields(settings: &Settings, url: &str) -> Markup {
    let protocol = DatabaseProtocol::of_url(url);
    let has = |setting: fn(DatabaseProtocol) -> bool| protocol.is_some_and(setting);
    let timeout = text(settings.statement_timeout.as_ref());
    let kinds = settings.statements.as_ref().map(|kinds| joined(kinds, " "));
    let tables = settings.tables.as_ref().map(|tables| joined(tables, " "));
    let functions = settings.functions.as_ref().map(|names| joined(names, " "));
    let role = text(settings.role.as_ref());
    let (rows, bytes) = (text(settings.rows_max.as_ref()), text(settings.bytes_max.as_ref()));
    let read_only = Check {
        name: "settings.read_only",
        label: "Read-only",
        help: Some("Open sessions end when this is changed."),
        is_ticked: settings.read_only == Some(true),
        ..Check::default()
    };
    let recorded = Check {
        name: "settings.audit_statements",
        label: "Record statements",
        help: Some("Each statement is written to the audit log, with ? for its literals."),
        is_ticked: settings.audit_statements == Some(true),
        ..Check::default()
    };
    html! {
        (read_only.show())
        @if has(DatabaseProtocol::has_statement_timeout) {
            (field("settings.statement_timeout", "Statement timeout", &timeout, "Such as 30s.", None))
        }
        @if has(DatabaseProtocol::has_statements) {
            (field("settings.statements", "Permitted statements", &kinds, "Such as: select insert. Empty: all that the role may.", Some("list")))
            (field("settings.tables", "Permitted tables", &tables, "Such as: orders sales.*. Empty: all.", Some("list")))
            (field("settings.functions", "Permitted functions", &functions, "Beside the server's own, such as: slugify app.*. With any of the three lists, all others are refused.", Some("list")))
            (recorded.show())
        }
        @if has(DatabaseProtocol::has_role) {
            (field("settings.role", "Role", &role, "Sessions begin with it, as SET ROLE does.", None))
        }
        @if has(DatabaseProtocol::has_answer_limits) {
            (field("settings.rows_max", "Rows of an answer", &rows, "At most.", Some("number")))
            (field("settings.bytes_max", "Bytes of an answer", &bytes, "At most.", Some("number")))
        }
    }
}

fn field(
    name: &str,
    label: &str,
    value: &Option<String>,
    help: &str,
    json: Option<&str>,
) -> Markup {
    let value = value.as_deref();
    let help = Some(help);
    Field { name, label, value, help, json, is_optional: true, empties: true, ..Field::default() }
        .show()
}

fn text(value: Option<&impl Display>) -> Option<String> {
    value.map(ToString::to_string)
}

fn joined<T: Display>(all: &BTreeSet<T>, between: &str) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// Those of its protocol that are for this connection, or for any; `None`: it is to no database.
pub(super) async fn read_listeners(
    visit: &Visit,
    connection: &Shown<Connection>,
) -> Result<Option<Vec<DatabaseListenerView>>, PageError> {
    let Some(url) = &connection.facts.database else { return Ok(None) };
    let status: Option<Status> = visit.get_optional("/status").await?;
    let mut all = status.map(|status| status.databases).unwrap_or_default();
    all.retain(|listener| {
        let speaks = DatabaseProtocol::of_url(url) == Some(listener.protocol);
        let leads_here = listener.connection.as_ref().is_none_or(|it| *it == connection.spec.name);
        speaks && leads_here
    });
    Ok(Some(all))
}

pub(super) fn show(all: &[DatabaseListenerView]) -> Markup {
    html! {
        @for listener in all {
            p { code { (listener.at) } @if let Some(agent) = &listener.agent { " of " (agent) } }
        }
        p { a href="/databases" { @if all.is_empty() { "Open a listener" } @else { "All listeners" } } }
    }
}
