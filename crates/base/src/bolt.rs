//! The names that programs, drivers and servers of Bolt use. They are those of a product, so they are data: `bolt.tsv`.

/// Stands for the database that a server gives a user who names none.
pub const HOME_DATABASE: &str = "~";

/// Each line has a kind, a name and a value.
const NAMES: &str = include_str!("bolt.tsv");

/// The names and values of a kind, in their order.
pub fn names(kind: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    NAMES.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let mut columns = line.split('\t');
        let (of, name, value) = (columns.next()?, columns.next()?, columns.next()?);
        (of == kind).then_some((name, value))
    })
}

/// The value of one; empty if there is none, which a test excludes.
pub fn value(kind: &str, name: &str) -> &'static str {
    names(kind).find(|(own, _)| *own == name).map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_three_columns_and_all_that_is_looked_up_is_there() {
        for line in NAMES.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split('\t').filter(|column| !column.is_empty()).count(), 3, "{line}");
        }
        for (kind, name) in [
            ("provider", "id"),
            ("environment", "uri"),
            ("environment", "user"),
            ("environment", "password"),
            ("environment", "database"),
            ("message", "agent"),
            ("message", "failure_code"),
        ] {
            assert!(!value(kind, name).is_empty(), "{kind} {name}");
        }
        assert_eq!(names("scheme").count(), 6);
    }
}
