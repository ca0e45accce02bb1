//! Connections of kind `file`: what the API shows of their file, and the variables by which an agent's programs find it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::context::Context;
use crate::state::Admin;
use keyward_model::FileShown;
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::file::{FileText, PATH};
use keyward_state::directory::{AgentRecord, ConnectionRecord};

/// How many files the record of a run names.
const RECORDED_MAX: usize = 20;

/// The file of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionFile {
    pub(crate) path: String,
    /// Whether programs are asked to only read it.
    pub(crate) read_only: bool,
    /// What its provider says about it.
    pub(crate) text: FileText,
}

impl ConnectionFile {
    /// The stored file; `None` if the connection is of another kind, or its grant cannot be opened.
    pub(crate) async fn of(admin: &Admin, connection: &ConnectionRecord) -> Option<Self> {
        let text = text(admin, connection)?;
        let fields = admin.deps().vault.grants().shown_fields(connection).await.ok()?;
        Some(Self::new(connection, text, fields))
    }

    /// The file that another grant names by its fields that are not secret.
    pub(crate) fn given(
        admin: &Admin,
        connection: &ConnectionRecord,
        fields: BTreeMap<String, String>,
    ) -> Option<Self> {
        Some(Self::new(connection, text(admin, connection)?, fields))
    }

    fn new(
        connection: &ConnectionRecord,
        text: FileText,
        mut fields: BTreeMap<String, String>,
    ) -> Self {
        let path = fields.remove(PATH).unwrap_or_default();
        Self { path, read_only: connection.settings.read_only == Some(true), text }
    }

    pub(crate) fn shown(self) -> FileShown {
        // Nothing hides the file from agents, or mounts it read-only.
        FileShown { path: self.path, read_only: self.read_only, advisory: true }
    }

    /// The variables.
    pub(crate) async fn variables(
        self,
        admin: &Admin,
        connection: &ConnectionRecord,
    ) -> BTreeMap<String, String> {
        match self.is_given(admin, connection).await {
            true => self.text.filled(&self.path, self.read_only),
            false => BTreeMap::new(),
        }
    }

    /// Whether programs get the path. Not while the connection cannot be used, and not if it leads to Keyward's own files:
    /// a link may have changed since the path was given.
    async fn is_given(&self, admin: &Admin, connection: &ConnectionRecord) -> bool {
        connection.facts.state.is_usable() && !self.is_private(admin).await
    }

    /// Whether the path leads to Keyward's own files.
    pub(crate) async fn is_private(&self, admin: &Admin) -> bool {
        let (own, path) = (admin.deps().vault.private_paths(), self.path.clone());
        let looked = tokio::task::spawn_blocking(move || own.cover(Path::new(&path)));
        looked.await.unwrap_or(true)
    }
}

/// Records which files the programs of an agent get.
pub(crate) async fn record_those_of(context: &Context, agent: &AgentRecord) {
    let mut found = Vec::new();
    for binding in &agent.facts.bindings {
        let connection = context.view().connection(&agent.org, &binding.connection).cloned();
        let Some(connection) = connection else { continue };
        let Some(file) = ConnectionFile::of(&context.admin, &connection).await else { continue };
        if file.is_given(&context.admin, &connection).await {
            let mode = if file.read_only { " (read-only)" } else { "" };
            found.push(format!("{} {}{mode}", connection.name, file.path));
        }
    }
    if !found.is_empty() {
        let more = found.split_off(found.len().min(RECORDED_MAX)).len();
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        context.caller.because(format!("with files: {}{more}", found.join(", ")));
    }
}

/// What the provider says about files; `None` if the connection is of another kind. Only built-in providers say something:
/// others are of people who may not choose the variables of every program, or search the beginnings of this machine's files.
fn text(admin: &Admin, connection: &ConnectionRecord) -> Option<FileText> {
    let catalogue = admin.deps().vault.catalogue(&connection.org);
    let provider = catalogue.get(&connection.provider)?;
    let text = provider.auth(connection.auth.as_deref())?.file.clone()?;
    let built_in = Catalogue::built_in();
    let is_built_in = built_in.get(&provider.id).is_some_and(|it| Arc::ptr_eq(it, provider));
    Some(if is_built_in { text } else { FileText::default() })
}
