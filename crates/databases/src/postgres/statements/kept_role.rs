//! Whether a server ends the role of a session when it sets the session's user, as `DISCARD ALL` does.
//! <https://www.postgresql.org/support/security/CVE-2024-10978/>

/// Whether a server of this version keeps the role with which the session began. Servers with other forms of versions are not
/// known to.
pub fn keeps_role(version: &str) -> bool {
    // Packages add their own version: `16.4 (Debian 16.4-1.pgdg120+1)`.
    let number = match version.split_once(" (") {
        Some((number, package)) if package.ends_with(')') => number,
        _ => version,
    };
    let parts = number.split_once('.');
    let Some((Ok(major), Ok(minor))) =
        parts.map(|(major, minor)| (major.parse::<u32>(), minor.parse::<u32>()))
    else {
        return false;
    };
    match major {
        12 => minor >= 21,
        13 => minor >= 17,
        14 => minor >= 14,
        15 => minor >= 9,
        16 => minor >= 5,
        17 => minor >= 1,
        _ => major >= 18,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_keep_the_role_since_the_minor_versions_of_november_2024() {
        for version in ["12.21", "13.17", "14.14", "15.9", "16.5", "17.1", "18.0", "19.3"] {
            assert!(keeps_role(version), "{version}");
        }
        assert!(keeps_role("15.18 (Debian 15.18-0+deb12u1)"));
        for version in [
            "12.20",
            "13.16",
            "14.13",
            "15.8",
            "16.4",
            "17.0",
            "9.6.24",
            "11.22",
            "16.4 (Debian 16.5-1)",
            "15.12-YB-2.25.0.0-b0",
            "15.12 YB",
            "17",
            "18beta1",
            "",
        ] {
            assert!(!keeps_role(version), "{version}");
        }
    }
}
