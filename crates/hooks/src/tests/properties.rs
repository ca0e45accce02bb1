//! Properties: no changed byte of body, signature, id or time is accepted, and nothing that a peer sends panics.

use proptest::prelude::*;

use super::table::{How, ROWS};
use super::*;

proptest! {
    #[test]
    fn no_changed_byte_of_the_body_is_accepted(row in 0..ROWS.len(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let row = &ROWS[row];
        prop_assume!(row.how != How::Token);
        let mut sent = row.signed(0, NOW);
        let at = at.index(sent.body.len());
        sent.body[at] ^= 1 << bit;
        prop_assert!(row.verified(&sent).is_err(), "{}: byte {}", row.label(), at);
    }

    #[test]
    fn no_changed_character_of_a_header_is_accepted(
        row in 0..ROWS.len(),
        header in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        to in 0x21_u8..0x7f,
    ) {
        let row = &ROWS[row];
        let mut sent = row.signed(0, NOW);
        let name = header.get(&sent.headers.keys().cloned().collect::<Vec<_>>()).clone();
        let value = sent.headers[&name].as_bytes().to_vec();
        let mut changed = value.clone();
        changed[at.index(value.len())] = to;
        // Hexadecimal digits may have either case.
        let is_hex = [How::Hex, How::HexSha1, How::Base64Key, How::DiscordEd25519].contains(&row.how);
        let is_same = is_hex && changed.eq_ignore_ascii_case(&value);
        prop_assume!(changed != value && !is_same);
        sent = sent.replace(name.as_str(), std::str::from_utf8(&changed).expect("ASCII"));
        prop_assert!(row.verified(&sent).is_err(), "{}: {}", row.label(), sent.one(name.as_str()));
    }

    #[test]
    fn no_request_panics(
        id in any::<prop::sample::Index>(),
        body in prop::collection::vec(any::<u8>(), 0..60),
        value in "[ -~]{0,60}",
        query in "[ -~]{0,30}",
        secret in "[ -~]{0,30}",
    ) {
        let scheme = id.get(crate::all());
        let names = ROWS.iter().filter(|row| row.id == scheme.id()).map(|row| row.header);
        let mut sent = Sent::post(body);
        sent.url = format!("{URL}{query}");
        for name in names {
            sent = sent.replace(name, value.trim());
        }
        let is_token = |row: &table::Row| row.id == scheme.id() && row.how == How::Token;
        let accepted = sent.verify(scheme.id(), &[&secret]).is_ok();
        prop_assert!(!accepted || ROWS.iter().any(is_token));
        let _ = sent.challenge(scheme.id(), &[&secret]);
    }
}
