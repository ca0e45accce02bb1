//! `/keys`: the master keys by id, and their rotation. What a rotation does is `keyward_vault::keys`'.

use axum::Json;
use axum::extract::State;

use super::body::Params;
use super::error::ApiError;
use super::openapi::Routes;
use super::page::Page;
use super::replicas::all_have_key;
use super::state::Admin;
use super::wire::{KeyRotated, KeySourceKind, KeySourceView, KeyView, List};
use keyward_state::crypto::keyring::KeyOrigin;
use keyward_vault::keys::{KeyUse, KeysError, RotationResult};

pub(super) fn routes() -> Routes {
    Routes::new().get("/keys", ["listKeys", "List master keys"], list).post(
        "/keys/rotate",
        ["rotateKey", "Rotate the master key"],
        rotate,
    )
}

async fn list(
    State(admin): State<Admin>,
    Params(page): Params<Page>,
) -> Result<Json<List<KeyView>>, ApiError> {
    // The current key first, so the place in the ring is the cursor.
    let uses = admin.deps().keys.uses().await?.into_iter().map(view).enumerate();
    let placed = uses.map(|(place, key)| (format!("{place:08}"), key));
    let wanted = placed.filter(|(_, key)| page.wants(&[&key.id])).collect();
    let List { items, next } = page.cut(wanted, |(cursor, _): &(String, KeyView)| cursor)?;
    Ok(Json(List { items: items.into_iter().map(|(_, key)| key).collect(), next }))
}

async fn rotate(State(admin): State<Admin>) -> Result<Json<KeyRotated>, ApiError> {
    let keys = &admin.deps().keys;
    all_have_key(&admin, keys.next_current()?).await?;
    let RotationResult { current, made, retired, unneeded, rewrapped, rows } =
        keys.rotate().await?;
    Ok(Json(KeyRotated {
        current: current.id.to_string(),
        source: source(&current.origin),
        made,
        retired: retired.iter().map(ToString::to_string).collect(),
        unneeded: unneeded.iter().map(|key| source(&key.origin)).collect(),
        rewrapped,
        rows,
    }))
}

fn view(key: KeyUse) -> KeyView {
    KeyView {
        id: key.id.to_string(),
        current: key.current,
        source: key.origin.as_ref().map(source),
        rows: key.rows,
    }
}

fn source(origin: &KeyOrigin) -> KeySourceView {
    let (kind, name) = match origin {
        KeyOrigin::File(path) => (KeySourceKind::File, path.display().to_string()),
        KeyOrigin::Env(name) => (KeySourceKind::Env, name.clone()),
        KeyOrigin::Command(program) => (KeySourceKind::Command, program.clone()),
        KeyOrigin::Memory => (KeySourceKind::Memory, String::new()),
    };
    KeySourceView { kind, name }
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => Self::internal(error),
            KeysError::Interrupted => Self::Draining,
            // The operator asked, and the operator must look: rows and files are named.
            refused => Self::refused(refused.to_string()).hint_if(refused.hint()),
        }
    }
}
