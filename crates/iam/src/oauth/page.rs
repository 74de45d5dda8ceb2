//! The pages of a sign-in: plain HTML and a style sheet inside, no script, nothing from elsewhere.
//!
//! Everything that came with a request is escaped. No other page may frame these, and their form leads back here or
//! to the address that was agreed on.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5a6875;--line:#d4dbe2;--paper:#fff;--back:#edf1f4;--deep:#1f5673}\
@media(prefers-color-scheme:dark){:root{--ink:#e6ecf1;--soft:#a3b1bd;--line:#3a4753;--paper:#1b242c;--back:#11181e;--deep:#7cc0df}}\
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--back);\
color:var(--ink);font:1rem/1.5 system-ui,sans-serif}main{width:100%;max-width:28rem;background:var(--paper);border:1px solid \
var(--line);border-radius:.75rem;padding:2rem}h1{margin:0 0 .25rem;font-size:1.375rem;line-height:1.3}p{margin:.5rem 0;\
color:var(--soft)}strong,code{color:var(--ink)}fieldset{border:0;margin:1.25rem 0 0;padding:0}legend{padding:0;font-weight:600}\
.choice{display:flex;gap:.75rem;align-items:baseline;padding:.75rem;margin-top:.5rem;border:1px solid var(--line);\
border-radius:.5rem}.choice label{overflow-wrap:anywhere}.choice small{display:block;color:var(--soft)}input[type=email]\
{display:block;width:100%;margin-top:.5rem;padding:.6rem .75rem;font:inherit;color:inherit;background:transparent;border:1px \
solid var(--soft);border-radius:.375rem}input[type=radio]{accent-color:var(--deep)}.buttons{display:flex;gap:.75rem;\
justify-content:flex-end;margin-top:1.5rem}button{font:inherit;font-weight:600;padding:.6rem 1.25rem;border-radius:.375rem;\
border:1px solid var(--deep);background:transparent;color:var(--deep);cursor:pointer}button.go{background:var(--deep);\
color:var(--paper)}:focus-visible{outline:3px solid var(--deep);outline-offset:2px}code{display:block;margin:1rem 0;padding:\
.75rem;border:1px dashed var(--soft);border-radius:.375rem;overflow-wrap:anywhere;user-select:all;font-size:.95rem}\
.wrong{color:#b3261e}@media(prefers-color-scheme:dark){.wrong{color:#f2b8b5}}ul{margin:.5rem 0 0;padding-left:1.25rem;\
color:var(--soft);font-size:.875rem;overflow-wrap:anywhere}details{margin-top:1rem}summary{cursor:pointer;color:var(--soft)}";

/// What the page that asks shows.
pub(super) struct Asking<'a> {
    /// The program that wants to act as somebody.
    pub program: &'a str,
    /// Where the answer goes, as people read it.
    pub goes_to: &'a str,
    /// The address that the form may lead to, besides this one; empty for none.
    pub leads_to: &'a str,
    /// The owner's address.
    pub owner: &'a str,
    /// Addresses that are known, to be suggested.
    pub known: &'a [String],
    /// What is asked for.
    pub scopes: &'a [String],
    /// What ties the answer to this page.
    pub ticket: &'a str,
    /// The address that was typed before.
    pub typed: &'a str,
    /// What was wrong with the answer before; empty the first time.
    pub wrong: &'a str,
}

/// Asks who somebody wants to be.
pub(super) fn ask(asking: &Asking<'_>) -> Response<Bytes> {
    let options: String =
        asking.known.iter().map(|email| format!("<option value=\"{}\">", escape(email))).collect();
    let scopes: String = asking.scopes.iter().map(|scope| format!("<li>{}</li>", escape(scope))).collect();
    let wrong = match asking.wrong.is_empty() {
        true => String::new(),
        false => format!("<p class=\"wrong\" role=\"alert\">{}</p>", escape(asking.wrong)),
    };
    let (owner_is, other_is) = if asking.typed.is_empty() { (" checked", "") } else { ("", " checked") };
    let body = format!(
        "<h1>Sign in to haar</h1><p><strong>{program}</strong> wants to act as you on this machine. The answer goes to \
         {goes_to}.</p>{wrong}<form method=\"post\" action=\"/o/oauth2/approve\"><input type=\"hidden\" name=\"ticket\" \
         value=\"{ticket}\"><fieldset><legend>Who do you want to be?</legend><div class=\"choice\"><input type=\"radio\" \
         name=\"who\" id=\"owner\" value=\"owner\"{owner_is}><label for=\"owner\">{owner}<small>The owner of this \
         haar</small></label></div><div class=\"choice\"><input type=\"radio\" name=\"who\" id=\"other\" \
         value=\"other\"{other_is}><div style=\"flex:1\"><label for=\"other\">Somebody else<small>A person, or a service \
         account that exists; with the roles that policies give</small></label><input type=\"email\" name=\"email\" \
         value=\"{typed}\" aria-label=\"E-mail address of somebody else\" list=\"known\" autocomplete=\"off\" \
         placeholder=\"ada@example.com\"><datalist id=\"known\">{options}</datalist></div></div></fieldset><details>\
         <summary>What it asks for</summary><ul>{scopes}</ul></details><div class=\"buttons\"><button name=\"decision\" \
         value=\"cancel\">Cancel</button><button class=\"go\" name=\"decision\" value=\"allow\">Allow</button></div></form>",
        program = escape(asking.program),
        goes_to = escape(asking.goes_to),
        ticket = escape(asking.ticket),
        owner = escape(asking.owner),
        typed = escape(asking.typed),
    );
    page(StatusCode::OK, "Sign in to haar", &body, asking.leads_to)
}

/// Shows a code to be copied.
pub(super) fn code(code: &str) -> Response<Bytes> {
    let body = format!(
        "<h1>You are signed in</h1><p>Copy this code, go back to the terminal, and paste it there. It works once, within \
         ten minutes.</p><code id=\"code\">{}</code>",
        escape(code)
    );
    page(StatusCode::OK, "Verification code", &body, "")
}

/// Says that nobody was signed in, on request.
pub(super) fn cancelled() -> Response<Bytes> {
    page(StatusCode::OK, "Cancelled", "<h1>Nobody was signed in</h1><p>This page can be closed.</p>", "")
}

/// Says what is wrong with a request, and what to do.
pub(super) fn refused(status: StatusCode, error: &str, why: &str) -> Response<Bytes> {
    let body =
        format!("<h1>This sign-in cannot go on</h1><p>{}</p><p>Error: {}</p>", escape(why), escape(error));
    page(status, "Sign-in refused", &body, "")
}

fn page(status: StatusCode, title: &str, body: &str, leads_to: &str) -> Response<Bytes> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\
         {body}</main></body></html>\n"
    );
    let mut response = Response::new(Bytes::from(html));
    *response.status_mut() = status;
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {leads_to}; frame-ancestors 'none'; base-uri 'none'"
    );
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
