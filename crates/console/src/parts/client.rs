//! What an app's client id and secret are called.

use crate::visit::capital;
use keyward_api::wire::AuthView;

/// Labels of the client's id and secret, in the words of the service.
pub(crate) fn client_labels(auth: Option<&AuthView>) -> [String; 2] {
    client_words(auth).map(capital)
}

/// The same words within a sentence.
pub(crate) fn client_words(auth: Option<&AuthView>) -> [&str; 2] {
    auth.map_or(["client id", "client secret"], AuthView::client_words)
}
