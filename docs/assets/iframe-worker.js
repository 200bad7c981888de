// The search of this site runs in a Worker, which browsers refuse to pages that are opened from disk: there a hidden
// frame takes its place. (mkdocs-material's plug-in "offline" looks for a script of this name; its own is on a server.)
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<body></body>";
      frame.onload = () => {
        frame.contentWindow.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = frame.contentDocument.createElement("script");
        script.src = url;
        script.onload = () => {
          this.inside = frame.contentWindow;
          this.waiting.forEach(data => this.postMessage(data));
        };
        frame.contentDocument.body.append(script);
      };
      document.body.append(frame);
    }

    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new MessageEvent("message", { data }));
      else this.waiting.push(data);
    }
  };
}
