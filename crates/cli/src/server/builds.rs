//! Builds from source: a folder comes in, an image's reference goes out.
//!
//! `POST /_haar/builds?name=NAME&project=PROJECT&region=REGION`, with the key of the control interface
//! (`Authorization: Bearer …`). All three parameters are needed; NAME is a service's name (`[a-z]([-a-z0-9]*[a-z0-9])?`,
//! at most 49 characters).
//!
//! **Body**: exactly what `build::source::pack(directory, &settings, writer)` writes: an uncompressed tar stream whose
//! first member is `haar-build.json` (the settings, `build::Settings` as JSON: variables of the person's shell that
//! matter to builds, and a start command where one was asked for), and whose others are the folder's files below
//! `workspace/`. Its length need not be known (chunked is fine). At most 2 GiB unpacked and 200,000 files.
//!
//! **Answer**: 200 and `application/x-ndjson`, one JSON object a line, sent as things happen:
//! - `{"step": "pip install", "text": "Collecting flask"}`: a line of a step's output, or what is about to be done.
//! - `{"remark": "…"}`: a sentence that people should see even when all goes well.
//! - the last line, if it worked:
//!   `{"image": "REGION-docker.pkg.dev/PROJECT/cloud-run-source-deploy/NAME@sha256:…", "tag": "…/NAME:latest",
//!   "digest": "sha256:…", "language": "Python 3.11", "framework": "Django", "start": ["gunicorn", …],
//!   "migrate": ["python3", "manage.py", "migrate", "--noinput"], "cached": true, "millis": 412}`.
//!   `framework` and `migrate` are null where there is none. `start` is what the image runs when the service gives no
//!   command. `cached` tells whether no dependency had to be installed.
//! - or, if it did not: `{"error": "…", "next": "…", "log": ["…", …]}`: what went wrong in a sentence, what to do about
//!   it (null where nothing is known), and the last lines of the step that failed (they were sent before, too).
//!
//! An answer that ends without one of the last two means that haar ended. A request that is wrong in itself (no such
//! parameter, a bad name) gets a 4xx and `{"error": {"message": "…"}}` as from every control call. A client that hangs
//! up ends its build.
