//! Honeytokens as a [`Stored`] resource: the view finds them by their placeholders too.

use std::sync::Arc;

use keyward_model::{Honeytoken, Record};

use super::index::NameKind;
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;

impl Stored for Honeytoken {
    const TABLE: Table = Table::Honeytokens;
    const NAMED: NameKind = NameKind::Honeytoken;

    stored_in!(honeytokens);

    fn add_to_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let org = view.org_mut(&record.org);
        let (core, id) = (record.facts.placeholder.core(), record.id.clone());
        org.honeytoken_cores.put(core, id, |id| *id == record.id);
    }

    fn remove_from_indexes(view: &mut View, record: &Arc<Record<Self>>) {
        let org = view.org_mut(&record.org);
        org.honeytoken_cores.remove(&record.facts.placeholder.core(), |id| *id == record.id);
    }
}
