//! What was added to a text, as a unified diff that `patch` takes. The new text holds every line of the old one.

/// How many lines around what is new are shown.
const AROUND: usize = 3;

/// Returns the difference; empty where there is none.
pub fn unified_diff(name: &str, old: Option<&str>, new: &str) -> String {
    let before: Vec<&str> = old.unwrap_or_default().lines().collect();
    let after: Vec<&str> = new.lines().collect();
    // Of each new line the old one that it is; what has none was added.
    let mut at = 0;
    let marks: Vec<bool> = after
        .iter()
        .map(|line| {
            let is_old = before.get(at) == Some(line);
            at += usize::from(is_old);
            !is_old
        })
        .collect();
    let mut hunks = String::new();
    let mut index = 0;
    while let Some(first) = marks.iter().skip(index).position(|added| *added).map(|found| found + index) {
        let begin = first.saturating_sub(AROUND).max(index);
        let (mut end, mut last) = (first, first);
        while end < marks.len() && end <= last + AROUND * 2 {
            if marks.get(end) == Some(&true) {
                last = end;
            }
            end += 1;
        }
        let end = (last + AROUND + 1).min(marks.len());
        let old_begin = marks.iter().take(begin).filter(|added| !**added).count();
        let old_count = marks.iter().take(end).skip(begin).filter(|added| !**added).count();
        let start = |begin: usize, count: usize| if count == 0 { begin } else { begin + 1 };
        hunks.push_str(&format!(
            "@@ -{},{old_count} +{},{} @@\n",
            start(old_begin, old_count),
            start(begin, end - begin),
            end - begin
        ));
        for (line, added) in after.iter().zip(&marks).take(end).skip(begin) {
            hunks.push_str(&format!("{}{line}\n", if *added { '+' } else { ' ' }));
        }
        index = end;
    }
    if hunks.is_empty() {
        return hunks;
    }
    let from = old.map_or("/dev/null", |_| name);
    format!("--- {from}\n+++ {name}\n{hunks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_shows_with_what_is_around() {
        assert_eq!(unified_diff("x", Some("a\n"), "a\n"), "");
        assert_eq!(unified_diff("x", None, "a\nb\n"), "--- /dev/null\n+++ x\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = format!("first\n{old}last\n");
        assert_eq!(
            unified_diff("x", Some(&old), &new),
            "--- x\n+++ x\n@@ -1,3 +1,4 @@\n+first\n 1\n 2\n 3\n@@ -18,3 +19,4 @@\n 18\n 19\n 20\n+last\n"
        );
    }
}
