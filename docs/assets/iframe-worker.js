// Search from disk. A page that was opened as a file may start no worker, so there the search's worker is a hidden frame
// with the same interface: messages go in by postMessage, come out as "message" events, importScripts loads a script.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      this.ready = new Promise((resolve) => {
        const inside = frame.contentWindow;
        inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", {data}));
        inside.importScripts = (...scripts) => Promise.all(scripts.map((script) => load(frame, new URL(script, address))));
        load(frame, new URL(address, location)).then(resolve);
      });
      this.addEventListener("message", (event) => this.onmessage?.(event));
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data})));
    }
    terminate() { this.frame.remove(); }
  };

  function load(frame, address) {
    return new Promise((resolve, reject) => {
      const script = frame.contentDocument.createElement("script");
      Object.assign(script, {src: String(address), async: false, onload: resolve, onerror: reject});
      frame.contentDocument.body.append(script);
    });
  }
}
