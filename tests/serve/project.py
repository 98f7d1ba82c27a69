"""A project of Label Studio with `saymask serve` as its backend, from upload to the mask read back.

    python tests/serve/project.py SAYMASK RUN IMAGE SENTENCE...

Needs label-studio (PyPI) in the environment that runs it. Starts Label Studio in a folder of its own, makes a project whose labels are
the sentences, uploads the image, connects the backend, asks for predictions by label and, as in a session, by text, and compares the
masks with POST /v1/segment pixel by pixel.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from masks import coco_mask, unpacked

TOKEN = "saymask-end-to-end-token-0000000000000000"


def call(method, url, body=None, headers=None):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    all_headers = {"Content-Type": "application/json", "Authorization": f"Token {TOKEN}"} | (headers or {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, all_headers, method=method), timeout=120) as reply:
            return json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.code} {error.read()[:500]!r}")


def form(path):
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{os.path.basename(path)}"\r\nContent-Type: image/png\r\n\r\n'
    return head.encode() + open(path, "rb").read() + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_label_studio(folder):
    port = free_port()
    environment = os.environ | {
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "LABEL_STUDIO_USER_TOKEN": TOKEN, "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false",
        # Backends on the same machine, and the webhooks that come with them, are refused otherwise.
        "USE_DEFAULT_BANNED_SUBNETS": "false",
    }
    program = os.path.join(os.path.dirname(sys.executable), "label-studio")
    arguments = ["start", "--no-browser", "--data-dir", folder, "--port", str(port), "--username", "a@example.org", "--password", "password-of-a-test", "--user-token", TOKEN]
    log = open(os.path.join(folder, "log.txt"), "w")
    process = subprocess.Popen([program, *arguments], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(900):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2)
            return process, address
        except OSError:
            time.sleep(1)
            if process.poll() is not None:
                break
    sys.exit("Label Studio did not start: " + open(log.name).read()[-2000:])


def start_saymask(program, run, media):
    process = subprocess.Popen([program, "serve", "--run", run, "--addr", "127.0.0.1:0", "--media", media], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip().rstrip("/")


def main(program, run, image, *sentences):
    folder = tempfile.mkdtemp(prefix="saymask-label-studio-")
    os.makedirs(os.path.join(folder, "media"))
    label_studio, address = start_label_studio(folder)
    saymask, backend = start_saymask(program, run, os.path.join(folder, "media"))
    try:
        labels = "".join(f'<Label value="{s}"/>' for s in sentences)
        config = (f'<View><Image name="image" value="$image"/><TextArea name="prompt" toName="image"/>'
                  f'<BrushLabels name="brush" toName="image">{labels}</BrushLabels></View>')
        project = call("POST", f"{address}/api/projects", {"title": "end to end", "label_config": config})["id"]
        body, headers = form(image)
        call("POST", f"{address}/api/projects/{project}/import", body, headers)
        task = until(lambda: call("GET", f"{address}/api/tasks?project={project}")["tasks"])[0]
        connected = call("POST", f"{address}/api/ml", {"project": project, "url": f"{backend}/label-studio", "title": "saymask", "is_interactive": True})
        print("connected:", connected["state"], connected.get("error_message"))
        call("POST", f"{address}/api/dm/actions?id=retrieve_tasks_predictions&project={project}",
             {"selectedItems": {"all": False, "included": [task["id"]]}, "project": project})
        want = call("POST", f"{backend}/v1/segment?format=rle", *form_of(image, sentences))
        masks = {p["sentence"]: coco_mask(p["segmentation"]) for p in want["predictions"]}

        predictions = until(lambda: call("GET", f"{address}/api/predictions?task={task['id']}"))
        compare("by label", predictions[0]["result"], masks)
        context = {"result": [{"type": "textarea", "from_name": "prompt", "to_name": "image", "value": {"text": [sentences[0]]}}]}
        answer = call("POST", f"{address}/api/ml/{connected['id']}/interactive-annotating", {"task": task["id"], "context": context})
        compare("by text", answer["data"]["result"], {sentences[0]: masks[sentences[0]]})
    finally:
        for process in (saymask, label_studio):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def until(ask):
    for _ in range(60):
        found = ask()
        if found:
            return found
        time.sleep(1)
    sys.exit("Label Studio gave nothing within a minute")


def form_of(image, sentences):
    parts = [f'--b\r\nContent-Disposition: form-data; name="sentence"\r\n\r\n{s}\r\n' for s in sentences]
    body, headers = form(image)
    body = re.sub(rb'name="file"', b'name="image"', body, count=1)
    return "".join(parts).encode() + body, headers


def compare(how, regions, masks):
    found = {r["value"]["brushlabels"][0]: unpacked(r) for r in regions if r["type"] == "brushlabels"}
    for sentence, want in masks.items():
        if sentence not in found:
            assert not want.any(), f"{how}: {sentence}: a mask is missing"
            continue
        assert (found[sentence] == want).all(), f"{how}: {sentence}: masks differ"
        print(f"equal {how}: {sentence}, {int(want.sum())} pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
