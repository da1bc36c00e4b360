// Light or dark: as the system says, unless somebody has chosen.
const KEY = "countersign-theme";

class Theme {
  choice = $state<"" | "light" | "dark">("");
  private readonly dark = matchMedia("(prefers-color-scheme: dark)");

  start(): void {
    const stored = localStorage.getItem(KEY);
    if (stored === "light" || stored === "dark") this.choice = stored;
    this.dark.addEventListener("change", () => this.apply());
    this.apply();
  }

  get isDark(): boolean {
    return this.choice === "" ? this.dark.matches : this.choice === "dark";
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
