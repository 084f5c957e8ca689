//! Tells the type of a workload by its file.

use std::path::Path;

/// How many bytes of a file [`detect`] wants to see.
pub(super) const HEAD_BYTES: usize = 8;

/// The first bytes of a file that a machine runs: ELF, and Mach-O of both widths and orders.
const EXECUTABLES: [&[u8]; 5] = [
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
];

/// The type that a file is for: `js`, `wasm` or `native`. `None` where it is none of them.
pub(super) fn detect(path: &Path, head: &[u8]) -> Option<&'static str> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if matches!(extension, Some("js" | "mjs")) {
        return Some("js");
    }
    if head.starts_with(b"\0asm") {
        return Some("wasm");
    }
    let native = EXECUTABLES.iter().any(|magic| head.starts_with(magic))
        || is_universal(head)
        || head.starts_with(b"MZ")
        || head.starts_with(b"#!")
        // No system runs it so; the nexlet says why.
        || head.starts_with(b"\xef\xbb\xbf#!");
    native.then_some("native")
}

/// Whether it is a Mach-O for several machines. A Java class begins with the same four bytes; its
/// next four are a version that is 45 at least, where a Mach-O has the number of its machines.
fn is_universal(head: &[u8]) -> bool {
    head.strip_prefix(b"\xca\xfe\xba\xbe")
        .and_then(|rest| rest.first_chunk::<4>())
        .is_some_and(|count| u32::from_be_bytes(*count) < 45)
}

/// The next step for a file that is nothing of what [`detect`] knows.
pub(super) fn advice(path: &Path) -> String {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    let file = path.display();
    let script = |interpreter: &str| {
        format!("begin it with a line that names its interpreter: `#!/usr/bin/env {interpreter}`")
    };
    match extension.as_str() {
        "ts" | "mts" | "cts" | "tsx" | "jsx" => format!(
            "functions are JavaScript: `npx esbuild {file} --bundle --format=esm --outfile={}` makes it of this",
            path.with_extension("mjs").display()
        ),
        "cjs" => format!(
            "functions are no CommonJS modules: `npx esbuild {file} --bundle --format=esm --outfile={}` makes a module \
             of this",
            path.with_extension("mjs").display()
        ),
        "wat" => format!("compile it: `wat2wasm {file}`"),
        "py" => script("python3"),
        "sh" => script("sh"),
        "bash" => script("bash"),
        "rb" => script("ruby"),
        "pl" => script("perl"),
        "php" => script("php"),
        "lua" => script("lua"),
        "go" | "rs" | "c" | "cc" | "cpp" | "zig" | "java" | "kt" | "swift" => {
            "compile it to an executable or to WebAssembly, and deploy that".to_owned()
        }
        "jar" | "class" => {
            "deploy a script that runs it, with `java` on the machine of the node".to_owned()
        }
        "yaml" | "yml" | "json" => {
            format!("a Nexfile is started by `nex workload start -f {file}`")
        }
        "zip" | "gz" | "tgz" | "tar" => {
            "unpack it; of a folder, its JavaScript is deployed as one function".to_owned()
        }
        _ => "if it is for another nexlet, name its type: `--type TYPE`".to_owned(),
    }
}

/// What [`detect`] knows, for an error.
pub(super) const KNOWN: &str = "want JavaScript (`.js`, `.mjs`), WebAssembly, an executable (ELF, Mach-O, PE) or a script that begins with `#!`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_no_nexlet_has_advice_that_fits() {
        for (name, advised) in [
            (
                "x.ts",
                "`npx esbuild x.ts --bundle --format=esm --outfile=x.mjs`",
            ),
            (
                "a/x.CTS",
                "`npx esbuild a/x.CTS --bundle --format=esm --outfile=a/x.mjs`",
            ),
            ("x.tsx", "--outfile=x.mjs"),
            ("x.cjs", "no CommonJS modules: `npx esbuild x.cjs"),
            ("x.wat", "`wat2wasm x.wat`"),
            ("job.py", "`#!/usr/bin/env python3`"),
            ("job.sh", "`#!/usr/bin/env sh`"),
            ("main.go", "compile it"),
            ("app.jar", "`java`"),
            ("Nexfile.yaml", "`nex workload start -f Nexfile.yaml`"),
            ("app.tar", "unpack it"),
            ("notes.txt", "`--type TYPE`"),
            ("notes", "`--type TYPE`"),
        ] {
            let advice = advice(Path::new(name));
            assert!(advice.contains(advised), "{name}: {advice}");
            let is_type = advised.contains("--type");
            assert_eq!(advice.contains("--type"), is_type, "{name}: {advice}");
        }
    }

    #[test]
    fn files_are_told_apart() {
        for (name, head, kind) in [
            ("echo.js", b"(s, p) =".as_slice(), Some("js")),
            ("echo.mjs", b"", Some("js")),
            ("tool.js", b"#!/usr/b", Some("js")),
            ("echo", b"\0asm\x01\0\0\0", Some("wasm")),
            ("echo.wasm", b"\0asm\x01\0\0\0", Some("wasm")),
            ("echo", b"\x7fELF\x02\x01\x01\0", Some("native")),
            ("echo", b"\xcf\xfa\xed\xfe\x07\0\0\x01", Some("native")),
            ("echo", b"\xca\xfe\xba\xbe\0\0\0\x02", Some("native")),
            ("echo.exe", b"MZ\x90\0\x03\0\0\0", Some("native")),
            ("job.sh", b"#!/bin/s", Some("native")),
            ("Echo.class", b"\xca\xfe\xba\xbe\0\0\0\x41", None),
            ("echo.wasm", b"(module)", None),
            ("notes.txt", b"hello wo", None),
            ("empty", b"", None),
        ] {
            assert_eq!(detect(Path::new(name), head), kind, "{name}");
        }
    }
}
