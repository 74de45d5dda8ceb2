//! Which files of a folder stay behind: the rules of gitignore(5), as gcloud applies them.
//!
//! A folder's `.gcloudignore` decides, and may include others (`#!include:.gitignore`). Without one, a folder that git
//! knows (it has `.git` or `.gitignore`) leaves behind git's own files and what its top `.gitignore` names; any other
//! folder goes whole. `.dockerignore` is read by neither gcloud nor the buildpacks, and so not here. Ignore files
//! further down are not read either. Sources: gitignore(5), and `gcloud topic gcloudignore`.

/// The longest rule, in bytes.
const MAX_RULE: usize = 4096;
/// The most rules.
const MAX_RULES: usize = 10_000;

/// Rules, of which the last one that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    segments: Vec<Segment>,
    verdict: Verdict,
    directories_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ignore,
    Keep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of directories.
    Any,
    /// One name, with wildcards.
    Name(Vec<char>),
}

impl Rules {
    /// The rules for a folder whose top-level files can be read with `read`; `has` tells whether there is a file or
    /// directory of a name.
    pub fn of(read: impl Fn(&str) -> Option<String>, has: impl Fn(&str) -> bool) -> Rules {
        let mut rules = Rules::default();
        if let Some(own) = read(".gcloudignore") {
            for line in own.lines() {
                match line.trim_end().strip_prefix("#!include:") {
                    Some(name) => rules.add(&read(name.trim()).unwrap_or_default()),
                    None => rules.add(line),
                }
            }
        } else if has(".git") || has(".gitignore") {
            rules.add(".gcloudignore\n.git\n.gitignore\n");
            rules.add(&read(".gitignore").unwrap_or_default());
        }
        rules
    }

    /// Adds the rules of an ignore file. Those that are too long or too many are left out.
    pub fn add(&mut self, text: &str) {
        let rules = text.lines().filter(|line| line.len() <= MAX_RULE).filter_map(Rule::parse);
        self.0.extend(rules.take(MAX_RULES.saturating_sub(self.0.len())));
    }

    /// Whether a path below the folder stays behind, provided that the directories above it do not.
    pub fn ignores(&self, path: &str, is_directory: bool) -> bool {
        let names: Vec<Vec<char>> = path.split('/').map(|name| name.chars().collect()).collect();
        let last = self.0.iter().rev().find(|rule| rule.matches(&names, is_directory));
        last.is_some_and(|rule| rule.verdict == Verdict::Ignore)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Rule> {
        let line = trim(line.strip_suffix('\r').unwrap_or(line));
        let (verdict, line) = match line.strip_prefix('!') {
            Some(rest) => (Verdict::Keep, rest),
            None => (Verdict::Ignore, line),
        };
        if line.is_empty() || (verdict == Verdict::Ignore && line.starts_with('#')) {
            return None;
        }
        let (line, directories_only) = match line.strip_suffix('/') {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let is_anchored = line.contains('/');
        let mut segments: Vec<Segment> =
            line.strip_prefix('/').unwrap_or(line).split('/').map(segment).collect();
        if !is_anchored {
            segments.insert(0, Segment::Any);
        }
        // `**` twice in a row says no more than once.
        segments.dedup_by(|one, two| *one == Segment::Any && *two == Segment::Any);
        Some(Rule { segments, verdict, directories_only })
    }

    /// Fills, row by row of the rule, the table of which beginnings of the rule match which beginnings of the path.
    fn matches(&self, names: &[Vec<char>], is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        let mut row = vec![false; names.len() + 1];
        row[0] = true;
        for (index, segment) in self.segments.iter().enumerate() {
            let is_last = index + 1 == self.segments.len();
            row = match segment {
                Segment::Any => after_any(&row, is_last),
                Segment::Name(pattern) => after_name(&row, names, pattern),
            };
        }
        row[names.len()]
    }
}

/// `a/**` means what is in `a`, not `a`: at the end it takes one name or more.
fn after_any(row: &[bool], is_last: bool) -> Vec<bool> {
    let mut reached = false;
    row.iter()
        .map(|matched| {
            let before = reached;
            reached |= matched;
            if is_last { before } else { reached }
        })
        .collect()
}

fn after_name(row: &[bool], names: &[Vec<char>], pattern: &[char]) -> Vec<bool> {
    let mut next = vec![false; row.len()];
    for (index, name) in names.iter().enumerate() {
        next[index + 1] = row[index] && name_matches(pattern, name);
    }
    next
}

/// Spaces at the end do not count, unless they are escaped.
fn trim(line: &str) -> &str {
    let trimmed = line.trim_end_matches(' ');
    match trimmed.ends_with('\\') && trimmed.len() < line.len() {
        true => &line[..trimmed.len() + 1],
        false => trimmed,
    }
}

fn segment(text: &str) -> Segment {
    if text == "**" { Segment::Any } else { Segment::Name(text.chars().collect()) }
}

/// Matches one name, going back to the last `*` only: that is enough, and never slow.
fn name_matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match one(&pattern[p.min(pattern.len())..], name[n]) {
            Some(used) => (p, n) = (p + used, n + 1),
            None => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|c| *c == '*')
}

/// Whether the beginning of a pattern matches a character, and how much of the pattern that took.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern) {
            Some((has, used)) => has(c).then_some(used),
            None => (c == '[').then_some(1),
        },
        '\\' if pattern.len() > 1 => (pattern[1] == c).then_some(2),
        plain => (*plain == c).then_some(1),
    }
}

/// Reads `[a-z]` or `[!a-z]`; `None` where it does not end.
fn set(pattern: &[char]) -> Option<(impl Fn(char) -> bool + '_, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    // A bracket that comes first is one of the set.
    let end = pattern.iter().skip(first + 1).position(|c| *c == ']')? + first + 1;
    let members = &pattern[first..end];
    let has = move |c: char| {
        let mut rest = members;
        let mut found = false;
        while let [one, tail @ ..] = rest {
            if let ['-', to, after @ ..] = tail {
                found |= (*one..=*to).contains(&c);
                rest = after;
            } else {
                found |= *one == c;
                rest = tail;
            }
        }
        found != negated
    };
    Some((has, end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> Rules {
        let mut rules = Rules::default();
        rules.add(text);
        rules
    }

    #[test]
    fn rules_mean_what_git_says() {
        for (rule, path, is_directory, ignored) in [
            ("*.pyc", "a/b/c.pyc", false, true),
            ("*.pyc", "a/b/c.py", false, false),
            ("/build", "build", true, true),
            ("/build", "src/build", true, false),
            ("build/", "src/build", true, true),
            ("build/", "src/build", false, false),
            ("doc/frotz", "a/doc/frotz", false, false),
            ("doc/frotz", "doc/frotz", false, true),
            ("**/foo", "a/b/foo", false, true),
            ("**/foo", "foo", false, true),
            ("a/**/b", "a/b", false, true),
            ("a/**/b", "a/x/y/b", false, true),
            ("abc/**", "abc/x/y", false, true),
            ("abc/**", "abc", true, false),
            ("a?c", "abc", false, true),
            ("a?c", "a/c", false, false),
            ("a*c", "a/c", false, false),
            ("[a-c]x", "bx", false, true),
            ("[!a-c]x", "bx", false, false),
            ("[]]x", "]x", false, true),
            ("[ab", "[ab", false, true),
            (r"\!important", "!important", false, true),
            (r"\#hash", "#hash", false, true),
            ("# comment", "# comment", false, false),
            ("trailing   ", "trailing", false, true),
            ("trailing\\ ", "trailing ", false, true),
            ("x\r", "x", false, true),
            ("", "x", false, false),
            ("/", "x", true, false),
            ("**", "a/b", false, true),
        ] {
            assert_eq!(rules(rule).ignores(path, is_directory), ignored, "{rule:?} {path:?}");
        }
        let last = rules("*.log\n!keep.log\n");
        assert!(last.ignores("a.log", false) && !last.ignores("keep.log", false));
    }

    #[test]
    fn a_folder_is_packed_as_gcloud_packs_it() {
        let files = |list: &'static [(&str, &str)]| {
            let read = move |name: &str| {
                list.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned())
            };
            Rules::of(read, move |name| list.iter().any(|(known, _)| *known == name))
        };
        assert!(!files(&[("main.py", "")]).ignores(".git", true));
        let git = files(&[(".gitignore", "*.log")]);
        assert!(git.ignores("a.log", false) && git.ignores(".gitignore", false) && git.ignores(".git", true));
        let own = files(&[(".gcloudignore", "#!include:.gitignore\n!b.log"), (".gitignore", "*.log")]);
        assert!(
            own.ignores("a.log", false) && !own.ignores("b.log", false) && !own.ignores(".gitignore", false)
        );
    }

    proptest! {
        #[test]
        fn any_rule_and_path_get_an_answer(rule in "[-a-c*?/!\\[\\]\\\\# .]{0,24}", path in "[a-c./]{1,24}") {
            let _ = rules(&rule).ignores(&path, true);
        }

        #[test]
        fn a_plain_name_matches_itself_wherever_it_is(name in "[a-z][a-z0-9_.-]{0,12}", above in "([a-z]{1,4}/){0,3}") {
            let path = format!("{above}{name}");
            let (anywhere, anchored) = (rules(&name), rules(&format!("/{path}")));
            prop_assert!(anywhere.ignores(&path, false));
            prop_assert!(anchored.ignores(&path, false));
        }
    }
}
