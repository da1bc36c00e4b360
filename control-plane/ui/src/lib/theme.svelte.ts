// Light or dark: as the system says, unless somebody has chosen.
const KEY = "countersign-theme";

class Theme {
  choice = $state<"" | "light" | "dark">("");
  private readonly media = matchMedia("(prefers-color-scheme: dark)");
  private system = $state(this.media.matches);

  start(): void {
    const stored = localStorage.getItem(KEY);
    if (stored === "light" || stored === "dark") this.choice = stored;
    this.media.addEventListener("change", ({ matches }) => {
      this.system = matches;
      this.apply();
    });
    this.apply();
  }

  get isDark(): boolean {
    return this.choice === "" ? this.system : this.choice === "dark";
  }

  toggle(): void {
    this.choice = this.isDark ? "light" : "dark";
    localStorage.setItem(KEY, this.choice);
    this.apply();
  }

  private apply(): void {
    document.documentElement.dataset["theme"] = this.isDark ? "dark" : "light";
  }
}

export const theme = new Theme();
