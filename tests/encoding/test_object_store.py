"""Stores on S3, against moto's server: credentials from the environment, concurrent writers, clear refusals."""

import http.server
import json
import re
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from test_index import frames as speech_of
from test_index import made as made_index
from test_shards import Loudness, recordings, spawn_array

from interlingua.cli import run
from interlingua.corpora import write_manifest
from interlingua.encoding import FrameStore, encode_manifest
from interlingua.errors import InterlinguaError, StoreError
from interlingua.index import Index
from interlingua.types import Frames

pytest.importorskip("moto")

SERVER = """
    # A bucket named "speech" and a user who may use it; the keys are checked.
    import json, sys
    import boto3, requests
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    root = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    boto3.client("s3", **root).create_bucket(Bucket="speech")
    iam = boto3.client("iam", **root)
    iam.create_user(UserName="user")
    key = iam.create_access_key(UserName="user")["AccessKey"]
    may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="user", PolicyName="p", PolicyDocument=json.dumps(may))
    requests.post(f"{url}/moto-api/reset-auth", data="0").raise_for_status()
    print("READY", url, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server():
    """URL, key and secret of a server in a process of its own."""
    script = [sys.executable, "-c", textwrap.dedent(SERVER)]
    with subprocess.Popen(
        script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        ready = next(line for line in process.stdout if line.startswith("READY"))
        yield ready.split()[1:]
        process.kill()


@pytest.fixture
def credentials(server, monkeypatch):
    """The environment of a user of the server."""
    url, key, secret = server
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name, value in {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return {"key": key, "secret": secret}


def frames(name, length=3):
    return Frames(name, np.random.default_rng([*name.encode()]).normal(size=(length, 4)).astype(np.float16), length)


def test_an_index_is_built_searched_and_thinned(credentials, tmp_path):
    utterances = [speech_of(language, n) for language in ("en", "fr") for n in range(30)]
    there, here = (made_index(uri, utterances) for uri in ("s3://speech/index.lance", tmp_path / "index.lance"))
    for query in (utterances[3], speech_of("ru", 7)):
        found, expected = (Index.open(i.uri).search(query, 5, language="fr") for i in (there, here))
        assert [(h.utterance, h.score) for h in found] == [(h.utterance, h.score) for h in expected]
    assert there.remove(["en/3", "fr/3"]) == 2
    there.store.write([speech_of("ru", 9)])
    assert there.refresh() == 1
    assert Index.open("s3://speech/index.lance").languages() == {"en": 29, "fr": 29, "ru": 1}
    with pytest.raises(StoreError, match="no index here"):
        Index.open("s3://speech/nothing.lance")


def test_create_write_read_replace_delete(credentials):
    uri = "s3://speech/round-trip.lance"
    store = FrameStore.open_or_create(uri, Loudness.spec, Loudness.dim)
    store.write([frames("a"), frames("b", 5)])
    store.write([frames("c", 2), frames("a", 7)])
    store.delete(["b"])
    found = FrameStore.open(uri)
    assert (found.path, found.spec, sorted(found.ids())) == (uri, Loudness.spec, ["a", "c"])
    for got, written in zip(found.read(["c", "a"]), [frames("c", 2), frames("a", 7)], strict=True):
        np.testing.assert_array_equal(got.values, written.values)
    store.note({"about": "tests"})
    assert found.notes()["about"] == "tests"


def test_encode_and_evaluate(credentials, wav_manifest, tiny_whisper_folder, capsys):
    uri, model = "s3://speech/corpus.lance", str(tiny_whisper_folder)
    assert run(["encode", str(wav_manifest), uri, "--model", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] == 9
    assert run(["encode", str(wav_manifest), uri, "--model", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["present"] == 9
    assert run(["evaluate", "retrieval", str(wav_manifest), uri, "--json"]) == 0
    there = json.loads(capsys.readouterr().out)["retrieval"]
    local = str(wav_manifest.parent / "local.lance")
    assert run(["encode", str(wav_manifest), local, "--model", model]) == 0
    capsys.readouterr()
    assert run(["evaluate", "retrieval", str(wav_manifest), local, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retrieval"] == there


def test_processes_that_write_at_once_are_killed_and_go_on(credentials, tmp_path):
    utterances, uri = recordings(tmp_path, 48), "s3://speech/array.lance"
    write_manifest(tmp_path / "m.jsonl", utterances)
    reports = spawn_array(tmp_path / "m.jsonl", uri, count=4, doomed=[2])
    assert sum(encoded + present for encoded, present in reports.values()) == 48
    assert reports[2][1] >= 2
    store = FrameStore.open(uri)
    assert sorted(store.ids()) == sorted(u.id for u in utterances)
    assert len(store) == 48
    assert encode_manifest(utterances, Loudness(), uri)[1].present == 48


@pytest.mark.parametrize(
    ("uri", "environment", "message"),
    [
        ("s3://nowhere/a.lance", {}, "s3://nowhere/a.lance: there is no such bucket"),
        ("s3://speech/a.lance", {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "check AWS_ACCESS_KEY_ID"),
        ("s3://speech/a.lance", {"AWS_SECRET_ACCESS_KEY": "not-it"}, "check AWS_SECRET_ACCESS_KEY"),
        ("s3://speech/a.lance", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "set AWS_ACCESS_KEY_ID and"),
        ("s3://speech/a.lance", {"AWS_ALLOW_HTTP": ""}, "set AWS_ALLOW_HTTP=true"),
        ("s3://speech/a.lance", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no answer .* check AWS_ENDPOINT_URL"),
    ],
    ids=["bucket", "key", "secret", "no credentials", "plain http", "no server"],
)
def test_what_is_wrong_is_one_line_without_secrets(
    credentials, tmp_path, monkeypatch, capfd, uri, environment, message
):
    for name, value in environment.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    write_manifest(tmp_path / "m.jsonl", recordings(tmp_path, 2))
    secrets = {*credentials.values(), *environment.values()} - {"", "http://127.0.0.1:9"}
    for command in (["encode", str(tmp_path / "m.jsonl"), uri, "--encoder", "test_shards:make"],
                    ["evaluate", "retrieval", str(tmp_path / "m.jsonl"), uri]):  # fmt: skip
        assert run(command) == 2
        out, err = capfd.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert re.search(message, lines[0]), err
        assert not any(secret in err for secret in secrets)


def test_nothing_there(credentials):
    with pytest.raises(StoreError, match=r"s3://speech/none\.lance: no frame store here; make one with"):
        FrameStore.open("s3://speech/none.lance")


ANSWERS = {
    "region": (
        400,
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting "
        "'eu-west-1'</Message><AWSAccessKeyId>{key}</AWSAccessKeyId></Error>",
        "lies in another region; set AWS_REGION",
    ),
    "moved": (301, "<Error><Code>PermanentRedirect</Code></Error>", "lies in another region; set AWS_REGION"),
    "denied": (
        403,
        "<Error><Code>AccessDenied</Code><Message>User {key} isn't allowed</Message></Error>",
        "access is denied; the key needs ListBucket",
    ),
    "unknown": (
        400,
        "<Error><Code>SomethingNew</Code><AWSAccessKeyId>{key}</AWSAccessKeyId></Error>",
        r"can't be opened \(Server returned .* 400 Bad Request\)$",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_amazon_answers_and_moto_does_not(credentials, monkeypatch, case):
    """As S3's documentation has them: moto knows one region alone, and no policies on buckets."""
    status, body, message = ANSWERS[case]

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = body.format(key=credentials["key"]).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *rest):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(InterlinguaError, match=message) as told:
            FrameStore.open_or_create("s3://speech/a.lance", Loudness.spec, Loudness.dim)
        server.shutdown()
    assert credentials["key"] not in str(told.value)
    assert "\n" not in str(told.value)
